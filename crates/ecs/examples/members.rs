//! Prints the page of members: `cargo run -p ecs --example members > crates/ecs/MEMBERS.md`.

fn main() {
    print!("{}", ecs::fields::markdown());
}
