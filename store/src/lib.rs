//! Ordered key-value store with compare-and-commit transactions, revisions and watch.
