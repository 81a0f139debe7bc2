"""The flush in C and Rust behind one C ABI: baselines to measure against, examples to port from."""
