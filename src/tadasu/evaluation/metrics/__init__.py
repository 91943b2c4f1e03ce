"""What is measured on a suite's pictures; one metric is one file."""
