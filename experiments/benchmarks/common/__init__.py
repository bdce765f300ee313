"""What the benchmarks share: cases and peers, times taken in turns, tables and figures."""
