use std::sync::Arc;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let store = images::Store::open(args[1].as_ref()).unwrap();
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let t = std::time::Instant::now();
    rt.block_on(images::pull(
        &store,
        &args[2].parse().unwrap(),
        &images::PullOptions::default(),
        Arc::new(images::Silent),
    ))
    .unwrap();
    eprintln!("pull {:?}", t.elapsed());
    let t = std::time::Instant::now();
    for _ in 0..100 {
        store.find(&args[2].parse().unwrap()).unwrap().unwrap();
    }
    eprintln!("find {:?}", t.elapsed() / 100);
    let t = std::time::Instant::now();
    for _ in 0..100 {
        images::Store::open(args[1].as_ref()).unwrap();
    }
    eprintln!("open {:?}", t.elapsed() / 100);
}
