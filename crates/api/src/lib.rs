//! AWS wire protocols as functions from bytes to bytes.
