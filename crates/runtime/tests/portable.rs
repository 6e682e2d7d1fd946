//! The functions in a plain wasmtime host that knows nothing of Fovea: whatever offers the standard WASI interfaces
//! can run them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    env,
    future::pending,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use api::PreprocessSpec;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::join;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use predictor::testing::{COLOURS, NAME, write_colours};
use serde_json::{Value, json};
use wasmtime::{
    AsContextMut as _, Config, Engine, OptLevel, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    handler::{Prepared, Proxy},
    p3::bindings::Service,
};

struct Plain {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: Offline,
}

impl WasiView for Plain {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Plain {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

struct Offline;

type Finished = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Offline {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Finished,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Finished), Error>> + Send> {
        panic!("a function must not send requests")
    }
}

/// A function, compiled; each request meets a fresh instance.
#[derive(Clone)]
struct Host {
    engine: Engine,
    linker: Linker<Plain>,
    component: Component,
    /// What the function sees at `/model`.
    model: Option<PathBuf>,
}

impl Host {
    fn of(function: &str) -> Self {
        let path = component(function);
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        // A few requests do not repay the time that optimising takes.
        config.cranelift_opt_level(OptLevel::None);
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_file(&engine, &path).unwrap();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi::p3::add_to_linker(&mut linker).unwrap();
        wasmtime_wasi_http::p3::add_to_linker(&mut linker).unwrap();
        Self { engine, linker, component, model: None }
    }

    fn with_model(self, folder: &Path) -> Self {
        Self { model: Some(folder.to_owned()), ..self }
    }

    async fn ask(&self, request: Request<impl Into<Bytes>>) -> (u16, Bytes) {
        let mut wasi = WasiCtx::builder();
        if let Some(folder) = &self.model {
            wasi.preopened_dir(folder, "/model", FsPerms::ReadOnly).unwrap();
        }
        let (http, table) = (WasiHttpCtx::new(), ResourceTable::new());
        let mut store = Store::new(&self.engine, Plain { wasi: wasi.build(), http, table, hooks: Offline });
        let proxy = Proxy::P3(Service::instantiate_async(&mut store, &self.component, &self.linker).await.unwrap());
        let request = request.map(|body| Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
        let answered = store.run_concurrent(async |accessor| {
            let (sender, receiver) = oneshot::channel();
            let call = accessor
                .with(|mut access| Prepared::new(access.as_context_mut(), &proxy, request, Plain::http, sender))
                .unwrap();
            let answer = async {
                let answer = receiver.await.unwrap().unwrap();
                (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
            };
            let (called, answer) = join(call.run(accessor, pending()), answer).await;
            called.unwrap();
            answer
        });
        answered.await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, Bytes) {
        self.ask(Request::get(format!("http://localhost{path}")).body("").unwrap()).await
    }

    async fn post(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> (u16, Bytes) {
        let uri = format!("http://localhost{path}");
        self.ask(Request::post(uri).header("content-type", content_type).body(body).unwrap()).await
    }
}

/// Compiling it takes longest.
static INFERENCE: LazyLock<Host> = LazyLock::new(|| Host::of("inference"));

fn component(function: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let components =
        env::var_os("FOVEA_COMPONENTS").map_or_else(|| target.join("wasm32-wasip2/release"), PathBuf::from);
    let path = components.join(format!("{function}.wasm"));
    assert!(
        path.exists(),
        "{} is missing; build it with `cargo build --release --target wasm32-wasip2 -p {function}`",
        path.display()
    );
    path
}

/// How far probabilities may be from those that were computed by hand: single precision and some rounding of pixels.
const MAX_DIFFERENCE: f64 = 1e-4;

const GRAY: [u8; 3] = [128; 3];

/// A bitmap of 24 bits a pixel, in one colour.
fn bitmap(width: u32, height: u32, [red, green, blue]: [u8; 3]) -> Vec<u8> {
    let row_bytes = (width * 3).next_multiple_of(4);
    let pixel_bytes = row_bytes * height;
    let mut file = b"BM".to_vec();
    for field in [54 + pixel_bytes, 0, 54, 40, width, height, 1 | 24 << 16, 0, pixel_bytes, 2835, 2835, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    for _ in 0..height {
        let mut row = [blue, green, red].repeat(width as usize);
        row.resize(row_bytes as usize, 0);
        file.extend(row);
    }
    file
}

fn json(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[tokio::test]
async fn preprocess_runs_in_any_wasi_host() {
    let host = Host::of("preprocess");
    assert_eq!(host.get("/").await.0, 200);

    let (status, body) = host.post("/", "image/bmp", bitmap(40, 30, GRAY)).await;
    assert_eq!(status, 200, "{body:?}");

    let picture = STANDARD.encode(bitmap(40, 30, GRAY));
    let batch = json!({ "images": [{ "name": "gray", "image": picture }, { "name": "none", "image": "" }] });
    let (status, body) = host.post("/", "application/json", batch.to_string()).await;
    assert_eq!(status, 200, "{body:?}");
    let entries = &json(&body)["images"];
    assert_eq!((&entries[0]["name"], &entries[0]["format"]), (&json!("gray"), &json!("bmp")), "{entries}");
    assert_eq!((&entries[0]["width"], &entries[0]["height"]), (&json!(40), &json!(30)), "{entries}");
    assert_eq!((&entries[1]["name"], &entries[1]["error"]["code"]), (&json!("none"), &json!("empty")), "{entries}");
}

#[tokio::test]
async fn inference_runs_in_any_wasi_host_and_says_that_it_has_no_model() {
    let host = &*INFERENCE;
    let (status, body) = host.get("/").await;
    assert_eq!(status, 200, "{body:?}");
    assert_eq!(json(&body)["model"], Value::Null);

    for (status, body) in
        [host.get("/health/ready").await, host.post("/predict", "image/bmp", bitmap(40, 30, GRAY)).await]
    {
        assert_eq!(status, 503, "{body:?}");
        assert_eq!(json(&body)["error"]["code"], "unavailable");
    }
}

#[tokio::test]
async fn inference_runs_in_any_wasi_host_that_mounts_a_model() {
    let model = tempfile::tempdir().unwrap();
    write_colours(model.path(), 3, &PreprocessSpec::square(8)).unwrap();
    let host = INFERENCE.clone().with_model(model.path());
    let (status, body) = host.get("/health/ready").await;
    assert_eq!(status, 200, "{body:?}");
    assert_eq!((&json(&body)["name"], &json(&body)["version"]), (&json!(NAME), &json!(3)));

    // The logits are 4, 0 and 0.
    let sure = 4_f64.exp() / (4_f64.exp() + 2.0);
    for (label, colour) in COLOURS {
        let (status, body) = host.post("/predict", "image/bmp", bitmap(40, 30, colour)).await;
        assert_eq!(status, 200, "{body:?}");
        assert_eq!(json(&body)["prediction"], label, "{body:?}");
        let confidence = json(&body)["confidence"].as_f64().unwrap();
        assert!((confidence - sure).abs() < MAX_DIFFERENCE, "{body:?}");
    }
    let pictures =
        COLOURS.map(|(label, colour)| json!({ "name": label, "image": STANDARD.encode(bitmap(9, 9, colour)) }));
    let (status, body) = host.post("/predict", "application/json", json!({ "images": pictures }).to_string()).await;
    assert_eq!(status, 200, "{body:?}");
    let entries: Vec<Value> = serde_json::from_slice(&body).unwrap();
    assert!(entries.len() == 3 && entries.iter().all(|entry| entry["name"] == entry["prediction"]), "{entries:?}");
}
