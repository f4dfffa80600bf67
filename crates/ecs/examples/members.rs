//! Prints the page of members: `cargo run -p ecs --example members > crates/ecs/MEMBERS.md`; with `json`, the table as
//! `coracle lint --members --output json` does.

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("json") => println!("{}", ecs::fields::json()),
        _ => print!("{}", ecs::fields::markdown()),
    }
}
