//! The page's own files, part of the program: style and small scripts.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::error::{Result, WebError};

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
    tag: String,
}

static ASSETS: LazyLock<[Asset; 5]> = LazyLock::new(|| {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    [
        ("style.css", "text/css; charset=utf-8", include_str!("../assets/style.css")),
        ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
        ("upload.js", SCRIPT, include_str!("../assets/upload.js")),
        ("live.js", SCRIPT, include_str!("../assets/live.js")),
        ("classify.js", SCRIPT, include_str!("../assets/classify.js")),
    ]
    .map(|(name, kind, content)| Asset { name, kind, content, tag: tag(content) })
});

fn tag(content: &str) -> String {
    Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Address of an asset, with a mark that changes with its content.
///
/// # Panics
/// If there is no such asset: every page's addresses are fixed, and each page is rendered by a test.
pub fn address(name: &str) -> String {
    let asset = ASSETS.iter().find(|asset| asset.name == name).expect("pages name only assets that are there");
    format!("/assets/{name}?v={}", asset.tag)
}

/// `GET /assets/{name}`.
pub async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Result<Response> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| WebError::not_found("there is nothing at this address"))?;
    let tag = format!("\"{}\"", asset.tag);
    let caching = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "public, max-age=3600".to_owned())];
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    Ok(if known {
        (StatusCode::NOT_MODIFIED, caching).into_response()
    } else {
        (caching, [(header::CONTENT_TYPE, asset.kind)], asset.content).into_response()
    })
}
