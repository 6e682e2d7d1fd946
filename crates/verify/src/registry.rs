//! A registry on this machine. Nodes may know it by the same name, as those of kind do; Knative, which looks tags up from
//! inside the cluster, finds another machine there. So they are looked up here, and Knative is given digests.

use bytes::Bytes;
use http::{Request, StatusCode, header};

use crate::{
    failure::{Failure, Result},
    manifests::Manifests,
    run::Run,
};

/// What a registry may have under a tag.
const KINDS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                     application/vnd.docker.distribution.manifest.list.v2+json, \
                     application/vnd.docker.distribution.manifest.v2+json";

/// Where a registry tells the digest of what it has.
const DIGEST: &str = "docker-content-digest";

/// Whether a registry's host, with or without a port, is this machine.
pub fn is_own_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.starts_with("127.") || name == "[::1]"
}

/// Adds to the images of a registry of this machine their digests.
///
/// # Errors
/// If the registry does not answer, or lacks one of them
pub async fn pin(run: &Run, manifests: &mut Manifests) -> Result<()> {
    for image in manifests.images() {
        let Some((host, path)) = image.split_once('/').filter(|(host, _)| is_own_machine(host)) else { continue };
        let digest = digest(run, host, path).await.map_err(|why| {
            let push = format!("cargo xtask images --registry R, then docker push {image}");
            Failure::new(format!("the registry at {host} does not tell the digest of {path}: {why}")).mend(push)
        })?;
        manifests.set_image(&image, &format!("{image}@{digest}"));
    }
    Ok(())
}

async fn digest(run: &Run, host: &str, path: &str) -> Result<String, String> {
    let (name, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
    let request = Request::head(format!("http://{host}/v2/{name}/manifests/{tag}")).header(header::ACCEPT, KINDS);
    let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
    let answer = run.http.send(request, run.options.patience.answer).await?;
    if answer.status() != StatusCode::OK {
        return Err(answer.status().to_string());
    }
    let digest = answer.headers().get(DIGEST).and_then(|digest| digest.to_str().ok());
    digest.map(str::to_owned).ok_or_else(|| format!("200, without {DIGEST}"))
}
