#![allow(clippy::unwrap_used, missing_docs)]
use std::{sync::Arc, time::{Duration, Instant}};
use crate::{*, bake::*, instance::Instance, sandbox::Sandbox};
fn rss() -> u64 { std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()/1024 }
fn pct(mut v: Vec<f64>) -> String { v.sort_by(f64::total_cmp); format!("min {:.3} p50 {:.3} p99 {:.3} ms", v[0], v[v.len()/2], v[v.len()*99/100]) }
#[test] fn tmp() {
  let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
  rt.block_on(async {
    println!("rss start {} MB", rss());
    let mut s = Settings::new("/tmp/art"); s.baker = Some("/work/main/target/release/fovea-runtime".into());
    let r = Runtime::new(&s).unwrap();
    println!("rss runtime {} MB", rss());
    let wasm="/work/main/target/wasm32-wasip2/release/";
    for (f, m) in [("preprocess", false), ("inference", true)] {
      let mounted = if m { vec![Mounted{path:"/work/bench-data/models/classifier/v1".into(), guest:"/model".into()}] } else { vec![] };
      let recipe = Recipe { component: format!("{wasm}{f}.wasm").into(), confines: Confines { name: f.into(), env: vec![], mounted, limits: Limits::default() } };
      let ing = Ingredients::read(recipe.clone()).unwrap(); let name = ing.artefact(&r.engine);
      let t=Instant::now(); let b = r.prepare(recipe.clone()).await.unwrap(); println!("{f}: prepare {:?} rss {}", t.elapsed(), rss());
      let t=Instant::now(); let b2 = r.prepare(recipe).await.unwrap(); println!("{f}: again {:?}", t.elapsed()); drop(b2);
      let t=Instant::now(); let c = r.artefacts.find(&r.engine, &name).unwrap(); println!("{f}: find {:?}", t.elapsed()); drop(c);
      let path=format!("/tmp/art/{name}/artefact");
      let mut v=vec![]; for _ in 0..50 { let t=Instant::now(); let c=unsafe{wasmtime::component::Component::deserialize_file(&r.engine,&path)}.unwrap(); v.push(t.elapsed().as_secs_f64()*1e3); drop(c);} println!("{f}: deserialize {}", pct(v));
      let mut v=vec![]; for _ in 0..50 { let c=unsafe{wasmtime::component::Component::deserialize_file(&r.engine,&path)}.unwrap(); let t=Instant::now(); let b=crate::sandbox::Blueprint::new(&c, Confines{name:"x".into(),env:vec![],mounted:vec![],limits:Limits::default()}).unwrap(); v.push(t.elapsed().as_secs_f64()*1e3); drop(b);} println!("{f}: link {}", pct(v));
      let mut v=vec![]; let mut d=vec![]; for _ in 0..200 { let t=Instant::now(); let s=Sandbox::start(&b).await.map_err(|e|e.to_string()).unwrap(); v.push(t.elapsed().as_secs_f64()*1e3); let t=Instant::now(); drop(s); d.push(t.elapsed().as_secs_f64()*1e3);} println!("{f}: sandbox start {} drop {}", pct(v), pct(d));
      for iso in [Isolation::Request, Isolation::Instance{max_requests:1000000}] {
        let inst = Arc::new(Instance::new(Arc::clone(&b), Arc::clone(&r.compute), iso, Duration::from_secs(30)));
        let req = || { let mut q=http::Request::get("/health/live").body(bytes::Bytes::new()).unwrap(); q.headers_mut().insert("host","localhost".parse().unwrap()); q };
        let mut v=vec![]; for _ in 0..500 { let t=Instant::now(); let a=inst.answer(req()).await; v.push(t.elapsed().as_secs_f64()*1e3); assert_eq!(a.status(),200); } println!("{f} {iso:?}: empty {}", pct(v));
        let img = std::fs::read("/tmp/pic.jpg").unwrap();
        let req = || { let mut q=http::Request::post("/").body(bytes::Bytes::from(img.clone())).unwrap(); q.headers_mut().insert("content-type","image/jpeg".parse().unwrap()); q };
        let mut v=vec![]; let mut tm=String::new(); for _ in 0..100 { let t=Instant::now(); let a=inst.answer(req()).await; v.push(t.elapsed().as_secs_f64()*1e3); if a.status()!=200 { panic!("{:?}", a); } tm=format!("{:?}", a.headers().get("server-timing")); tokio::time::sleep(Duration::from_millis(3)).await; } println!("{f} {iso:?}: picture {} {tm}", pct(v));
      }
      println!("{f}: rss {}", rss()); drop(b); println!("{f}: dropped rss {}", rss());
    }
  });
}
