"""Steps of large models, rehearsed for TPUs: what the page of that name has."""
