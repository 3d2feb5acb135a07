"""The nets that benchmarks run: well-known shapes, weights drawn from seeds, fp32 and int8."""
