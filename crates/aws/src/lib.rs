//! Amazon's nouns beside ECS's, spelt Amazon's way: so far the part of EC2 that a task's network needs. Pure.

pub mod ec2;
