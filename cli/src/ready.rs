//! Waits until servers answer.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

/// Pause between two questions; a start shall not look slower than it is.
const PAUSE: Duration = Duration::from_millis(20);

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns when every one of `urls` has answered with a success.
pub async fn wait_for(urls: &[String]) -> Result<()> {
    // A proxy that the environment names has no business between us and our own servers.
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().context("cannot set up HTTP")?;
    for url in urls {
        while !answers(&client, url).await {
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn answers(client: &reqwest::Client, url: &str) -> bool {
    client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn only_a_success_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/health/live", listener.local_addr().expect("an address"));
        let server = async {
            for status in ["503 Service Unavailable", "500 Internal Server Error", "204 No Content"] {
                let (mut connection, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 1024];
                let n = connection.read(&mut request).await.expect("a request");
                assert!(request[..n].starts_with(b"GET /health/live "));
                let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
                connection.write_all(answer.as_bytes()).await.expect("an answer");
            }
            drop(listener);
        };
        let (ready, ()) = tokio::join!(wait_for(std::slice::from_ref(&url)), server);
        ready.expect("the third answer is a success");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        assert!(!answers(&client, &url).await, "nobody listens any more");
    }
}
