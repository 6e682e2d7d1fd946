//! The WASI 0.3 component around [`Function`]: collects the body, answers; and the export that a runtime may call once,
//! before it snapshots the component, to have the model loaded.

use std::{path::PathBuf, sync::LazyLock};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use spin_sdk::{
    http::{FullBody, Request, Response},
    http_service,
};

use crate::{Function, MAX_BODY_BYTES, files, function::chain, memory};

/// Where the host mounts the model version to serve, read-only.
const MODEL_DIR: &str = "/model";

static FUNCTION: LazyLock<Function> = LazyLock::new(|| Function::with_reader(PathBuf::from(MODEL_DIR), files::read));

#[http_service]
async fn handle(request: Request) -> Response<FullBody<Bytes>> {
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => FUNCTION.answer(&http::Request::from_parts(head, body.to_bytes())),
        Err(e) if e.is::<LengthLimitError>() => Function::refuse_long_body(),
        Err(e) => Function::refuse_broken_body(&*e),
    };
    answer.map(FullBody::new)
}

mod bindings {
    use spin_sdk::wit_bindgen;

    wit_bindgen::generate!({
        inline: "package fovea:inference; world bake { export wizer-initialize: func(); }",
        world: "bake",
        runtime_path: "::spin_sdk::wit_bindgen::rt",
    });

    struct Bake;

    impl Guest for Bake {
        fn wizer_initialize() {
            super::initialize();
        }
    }

    export!(Bake);
}

fn initialize() {
    if let Err(error) = memory::while_loading(|| FUNCTION.initialize()) {
        panic!("cannot load the model: {}", chain(&error));
    }
}
