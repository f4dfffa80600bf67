//! task-lifecycle.
