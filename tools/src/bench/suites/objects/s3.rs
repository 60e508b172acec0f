//! `s3_put_mb_per_s` and `s3_get_mb_per_s`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::object::{Decryptor, Encryptor, ObjectContext};
use client::s3::Stores;
use futures::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use rand_core::Rng as _;
use ticket_format::report::{Report, exit};

use super::{DEK, PIECE, failed, rate};
use crate::realm::rng;
use crate::rows::Row;

/// Bytes of the object.
const OBJECT: usize = 64 << 20;
const BUCKET: &str = "bench";
/// For how long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// An S3 server with a bucket, and a client of it.
pub(super) struct Bench {
    stores: Stores,
    context: ObjectContext,
    piece: Vec<u8>,
    _server: Server,
}

pub(crate) struct Server {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bench {
    /// Starts the server that the tests run against, and makes a bucket.
    pub(super) async fn start() -> Result<Self, Report> {
        let (server, url) = serve().await?;
        let builder = AmazonS3Builder::new()
            .with_access_key_id("bench")
            .with_secret_access_key("bench")
            .with_region("us-east-1");
        let stores = Stores::with_builder(builder, Some(&url)).map_err(failed)?;
        stores.create_bucket(BUCKET).await.map_err(failed)?;
        let mut piece = vec![0; PIECE];
        rng().fill_bytes(&mut piece);
        Ok(Self {
            stores,
            context: ObjectContext::new(b"bench".to_vec()),
            piece,
            _server: server,
        })
    }

    /// One round: in the clear, then encrypted, in turn until each had its time.
    pub(super) async fn measure(
        &self,
        span: Duration,
        put: &mut Row,
        get: &mut Row,
    ) -> Result<(), Report> {
        let (mut times, mut bytes) = ([Duration::ZERO; 4], 0);
        while times[0] + times[1] < span {
            times[0] += timed(self.put_clear()).await?;
            times[1] += timed(self.put()).await?;
            times[2] += timed(self.get_clear()).await?;
            times[3] += timed(self.get()).await?;
            bytes += OBJECT;
        }
        let [clear_put, ours_put, clear_get, ours_get] = times.map(|took| rate(bytes, took));
        put.add(ours_put, clear_put);
        get.add(ours_get, clear_get);
        Ok(())
    }

    async fn put_clear(&self) -> Result<(), Report> {
        let upload = self.stores.upload(BUCKET, "clear", Vec::new());
        let mut upload = upload.map_err(failed)?;
        for _ in 0..OBJECT / PIECE {
            upload.write(&self.piece).await.map_err(failed)?;
        }
        upload.finish().await.map_err(failed)
    }

    async fn put(&self) -> Result<(), Report> {
        let upload = self.stores.upload(BUCKET, "sealed", Vec::new());
        let mut upload = upload.map_err(failed)?;
        let mut salt = [0; 24];
        rng().fill_bytes(&mut salt);
        let mut out = Vec::with_capacity(2 * PIECE);
        let mut writer = Encryptor::start(&DEK, &self.context, salt, &mut out).map_err(failed)?;
        for _ in 0..OBJECT / PIECE {
            writer.update(&self.piece, &mut out).map_err(failed)?;
            upload.write(&out).await.map_err(failed)?;
            out.clear();
        }
        writer.finish(&mut out).map_err(failed)?;
        upload.write(&out).await.map_err(failed)?;
        upload.finish().await.map_err(failed)
    }

    async fn get_clear(&self) -> Result<(), Report> {
        let mut back = 0;
        self.read("clear", |piece| {
            back += piece.len();
            Ok(())
        })
        .await?;
        whole(back)
    }

    async fn get(&self) -> Result<(), Report> {
        let (mut back, mut out) = (0, Vec::with_capacity(2 * PIECE));
        let mut reader = Decryptor::new(&DEK, &self.context);
        self.read("sealed", |piece| {
            reader.update(piece, &mut out).map_err(failed)?;
            back += out.len();
            out.clear();
            Ok(())
        })
        .await?;
        reader.finish(&mut out).map_err(failed)?;
        whole(back + out.len())
    }

    async fn read(
        &self,
        key: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), Report>,
    ) -> Result<(), Report> {
        let head = self.stores.head(BUCKET, key).await.map_err(failed)?;
        let body = self.stores.get(BUCKET, key, &head, 0..head.size).await;
        let mut body = body.map_err(failed)?;
        while let Some(piece) = body.try_next().await.map_err(failed)? {
            each(&piece)?;
        }
        Ok(())
    }
}

fn whole(back: usize) -> Result<(), Report> {
    match back == OBJECT {
        true => Ok(()),
        false => Err(failed(format!("{back} bytes of an object came back"))),
    }
}

async fn timed(work: impl Future<Output = Result<(), Report>>) -> Result<Duration, Report> {
    let started = Instant::now();
    work.await?;
    Ok(started.elapsed())
}

/// The S3 server of the tests, which speaks KMS too, and its URL.
pub(crate) async fn serve() -> Result<(Server, String), Report> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/foreign/s3-server");
    let dir = tempfile::tempdir().map_err(failed)?;
    let ready: PathBuf = dir.path().join("url");
    let mut command = Command::new(&script);
    command.arg("moto").arg(&ready).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let missing = |why: String| {
        Report::new(exit::NOT_FOUND, "the S3 server of the tests does not run")
            .why(why)
            .next("run tests/foreign/setup s3")
    };
    let child = command
        .spawn()
        .map_err(|error| missing(error.to_string()))?;
    let mut server = Server { child, _dir: dir };
    let started = Instant::now();
    loop {
        match std::fs::read_to_string(&ready) {
            Ok(url) if !url.trim().is_empty() => return Ok((server, url.trim().to_owned())),
            _ => {}
        }
        if let Ok(Some(status)) = server.child.try_wait() {
            return Err(missing(format!("it ended with {status}")));
        }
        if started.elapsed() > PATIENCE {
            return Err(missing("it does not come up".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
