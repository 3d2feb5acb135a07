"""Operators without a kernel of ours, by TVM: import, legalisation, a default schedule."""
