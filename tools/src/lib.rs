//! Administration, inspection, benchmarks, load.
