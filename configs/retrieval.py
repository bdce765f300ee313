"""Which encodings find again what stands far back, and how far past the trained length?

Question   Trained to look up needles in 64 tokens, which encodings still find them in 128 to 1024, does it matter where
           in the text they lie, and does a flat loss (suite `extrapolation`) mean that what is far back is remembered?
Papers     Hsieh et al. 2024, arXiv:2404.06654 (RULER: retrieval as its tasks have it); Liu et al. 2023, arXiv:2307.03172
           (lost in the middle); Peng et al. 2023, arXiv:2309.00071 (YaRN); Arora et al. 2023, arXiv:2312.04927 (MQAR).
Command    python -m experiments.run configs/retrieval.py
"""
