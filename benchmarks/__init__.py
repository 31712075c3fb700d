"""What the policies are measured with; see `benchmarks.run_arena`."""
