//! Cedar behind one door: schema, decide, explain.
