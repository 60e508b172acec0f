//! `cold_start_3000_requests` and `cold_start_3000_s`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ticket_format::report::Report;
use tokio::task::JoinSet;

use super::failed;
use super::job::Node;
use crate::realm::DATASET;

const BLOBS: usize = 3_000;
const CONNECTIONS: usize = 200;

/// What one cold start took.
pub(super) struct Cold {
    pub(super) requests: f64,
    pub(super) seconds: f64,
    /// With every data key held.
    pub(super) again: f64,
}

/// Ciphertexts with a data key of their own each.
pub(super) async fn blobs(node: &Node) -> Result<Vec<String>, Report> {
    let job = node.start().await?;
    let ask = json!({ "KeyId": format!("alias/{DATASET}"), "KeySpec": "AES_256" }).to_string();
    let asks = vec![ask; BLOBS];
    let made = all(job.url(), "GenerateDataKeyWithoutPlaintext", asks).await?;
    job.end().await;
    let text = |answer: Value| Some(answer["CiphertextBlob"].as_str()?.to_owned());
    let blobs: Option<Vec<String>> = made.into_iter().map(text).collect();
    blobs.ok_or_else(|| failed("no ciphertext came"))
}

pub(super) async fn measure(node: &Node, blobs: &[String]) -> Result<Cold, Report> {
    let begun = Instant::now();
    let job = node.start().await?;
    decrypt(job.url(), blobs).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let requests = job.requests();
    let begun = Instant::now();
    decrypt(job.url(), blobs).await?;
    let again = begun.elapsed().as_secs_f64();
    if job.requests() != requests {
        return Err(failed("a data key that was held was redeemed again"));
    }
    job.end().await;
    Ok(Cold {
        #[allow(clippy::cast_precision_loss)] // at most 3,000
        requests: requests as f64,
        seconds,
        again,
    })
}

async fn decrypt(url: &str, blobs: &[String]) -> Result<(), Report> {
    let asks = blobs
        .iter()
        .map(|blob| json!({ "CiphertextBlob": blob }).to_string());
    let opened = all(url, "Decrypt", asks.collect()).await?;
    let whole = |answer: &Value| {
        let plaintext = answer["Plaintext"].as_str();
        plaintext.is_some_and(|text| STANDARD.decode(text).is_ok_and(|key| key.len() == 32))
    };
    match opened.iter().all(whole) {
        true => Ok(()),
        false => Err(failed("a ciphertext was not opened")),
    }
}

/// Asks all of it, each of 200 connections one thing after the other. In no order.
async fn all(url: &str, operation: &'static str, asks: Vec<String>) -> Result<Vec<Value>, Report> {
    let client = reqwest::Client::builder().no_proxy().build();
    let client = client.map_err(failed)?;
    let (asks, next) = (Arc::new(asks), Arc::new(AtomicUsize::new(0)));
    let mut asking = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (asks, next) = (Arc::clone(&asks), Arc::clone(&next));
        let (client, url) = (client.clone(), url.to_owned());
        asking.spawn(async move {
            let mut answers = Vec::new();
            while let Some(ask) = asks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let request = client
                    .post(&url)
                    .header("Content-Type", "application/x-amz-json-1.1")
                    .header("X-Amz-Target", format!("TrentService.{operation}"))
                    .body(ask.clone());
                let answer = request.send().await.map_err(failed)?;
                let status = answer.status();
                let body = answer.bytes().await.map_err(failed)?;
                if !status.is_success() {
                    return Err(failed(String::from_utf8_lossy(&body)));
                }
                answers.push(serde_json::from_slice::<Value>(&body).map_err(failed)?);
            }
            Ok(answers)
        });
    }
    let mut answers = Vec::with_capacity(asks.len());
    while let Some(asked) = asking.join_next().await {
        answers.extend(asked.map_err(failed)??);
    }
    Ok(answers)
}
