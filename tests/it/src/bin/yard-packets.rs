//! Measures what a byte costs on loopback by packet size, acknowledgements and controller: QUIC
//! alone, with the transport profile of broker and client, both ends in this process.
//!
//! ```text
//! yard-packets [--mebibytes N] [--rounds N]
//! ```
//!
//! Processor time does not depend on who else runs, as rates do; rounds are interleaved and the
//! middle one is shown. Exit codes: 0 measured, 2 not.
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use quinn::{Endpoint, ServerConfig, TokioRuntime};
use yard_client::transport::{Controller, TransportOptions};
use yard_it::arguments::Arguments;
use yard_it::wait::within;
use yard_it::{Failed, program};

/// Bytes of one write.
const CHUNK: usize = 64 << 10;

fn main() -> ExitCode {
    program::run("yard-packets", &["mebibytes", "rounds"], measure)
}

fn variants() -> Vec<(String, TransportOptions)> {
    let base = TransportOptions::default;
    let mut all = vec![("as it is".to_owned(), base())];
    all.push(("bbr".to_owned(), TransportOptions { controller: Controller::Bbr, ..base() }));
    for mtu_bytes_max in [1_200, 6_500, 8_952] {
        let options = TransportOptions { mtu_bytes_max, ..base() };
        all.push((format!("mtu {mtu_bytes_max}"), options));
    }
    for packets_per_ack in [4, 10, 20] {
        let options = TransportOptions { packets_per_ack, ..base() };
        all.push((format!("{packets_per_ack} packets an ack"), options));
    }
    for socket_buffer_bytes in [208 << 10, 1 << 20] {
        let options = TransportOptions { socket_buffer_bytes, ..base() };
        all.push((format!("buffers of {} KiB", socket_buffer_bytes >> 10), options));
    }
    all
}

async fn measure(arguments: &Arguments) -> Result<(), Failed> {
    let mebibytes: usize = arguments.value("mebibytes", 512)?;
    let rounds: usize = arguments.value("rounds", 5)?;
    let variants = variants();
    let mut found = vec![Vec::new(); variants.len()];
    for _ in 0..rounds {
        for (number, (_, options)) in variants.iter().enumerate() {
            found[number].push(transfer(options, mebibytes << 20).await?);
        }
    }
    println!("{mebibytes} MiB, {rounds} rounds, the middle one: processor ns a byte, both ends");
    println!("                       ns/B     MB/s  lost packets  packet bytes");
    for ((name, _), rounds) in variants.iter().zip(&mut found) {
        rounds.sort_by(|one, other| one.nanoseconds.total_cmp(&other.nanoseconds));
        let Some(Cost { nanoseconds, rate, lost, mtu }) = rounds.get(rounds.len() / 2) else {
            continue;
        };
        println!("{name:<20} {nanoseconds:>6.2} {:>8.0} {lost:>13} {mtu:>13}", rate / 1e6);
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Cost {
    nanoseconds: f64,
    rate: f64,
    lost: u64,
    mtu: u16,
}

/// Processor time of this process so far, in seconds.
fn processor_seconds() -> Result<f64, Failed> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // After the name in brackets: state is field 3, user and system time are 14 and 15, in ticks.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>());
    let ticks: Result<Vec<f64>, _> = ticks.collect();
    let ticks = ticks.map_err(|error| Failed(format!("no processor time: {error}")))?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

async fn transfer(options: &TransportOptions, bytes: usize) -> Result<Cost, Failed> {
    let failed = |error: &dyn std::fmt::Display| Failed(format!("no transfer: {error}"));
    let key =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|e| failed(&e))?;
    let certificate = key.cert.der().clone();
    let private = rustls_pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let server_config = ServerConfig::with_single_cert(vec![certificate.clone()], private);
    let mut server_config = server_config.map_err(|e| failed(&e))?;
    let mut quic = options.quic();
    quic.max_concurrent_uni_streams(1u32.into());
    server_config.transport_config(Arc::new(quic));
    let mut endpoint = quinn::EndpointConfig::default();
    options.endpoint(&mut endpoint);
    let socket = options.socket((Ipv4Addr::LOCALHOST, 0).into())?;
    let runtime = Arc::new(TokioRuntime);
    let server = Endpoint::new(endpoint, Some(server_config), socket, runtime)?;
    let address = server.local_addr()?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).map_err(|e| failed(&e))?;
    let client_config = quinn::ClientConfig::with_root_certificates(Arc::new(roots));
    let mut client_config = client_config.map_err(|e| failed(&e))?;
    client_config.transport_config(Arc::new(options.quic()));
    let client = options.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let receiving = tokio::spawn(async move {
        let connection = server.accept().await?.await.ok()?;
        let mut stream = connection.accept_uni().await.ok()?;
        let mut total = 0;
        while let Ok(Some(chunk)) = stream.read_chunk(256 << 10, true).await {
            total += chunk.bytes.len();
        }
        connection.close(0u32.into(), b"");
        server.wait_idle().await;
        Some(total)
    });
    let connecting = client.connect_with(client_config, address, "localhost");
    let connection = connecting.map_err(|e| failed(&e))?.await.map_err(|e| failed(&e))?;
    let mut stream = connection.open_uni().await.map_err(|e| failed(&e))?;
    let chunk = bytes::Bytes::from(vec![7; CHUNK]);
    let (began, before) = (std::time::Instant::now(), processor_seconds()?);
    for _ in 0..bytes / CHUNK {
        let sent = within("a write", stream.write_chunk(chunk.clone())).await?;
        sent.map_err(|e| failed(&e))?;
    }
    stream.finish().map_err(|e| failed(&e))?;
    let _confirmed = within("the end", stream.stopped()).await?;
    let spent = processor_seconds()? - before;
    let rate = bytes as f64 / began.elapsed().as_secs_f64();
    let path = connection.stats().path;
    connection.close(0u32.into(), b"");
    let received = within("the receiver", receiving).await?.ok().flatten();
    if received != Some(bytes / CHUNK * CHUNK) {
        return Err(Failed(format!("{received:?} of {bytes} bytes arrived")));
    }
    let nanoseconds = spent * 1e9 / bytes as f64;
    Ok(Cost { nanoseconds, rate, lost: path.lost_packets, mtu: path.current_mtu })
}
