//! Operations as they are asked and answered: a request's JSON in, the answer's JSON or the exception out. Expected values
//! are those of Amazon's API reference and of answers that Amazon's users have shown.

mod account_settings;
mod anything;
mod attributes;
mod capacity_providers;
mod clusters;
mod container_instances;
mod pages;
mod reports;
mod tags;
mod task_definitions;
mod tasks;
mod world;
