use std::io::{Read, Write};
use std::net::TcpStream as Stream;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;
use crate::background::Background;

/// Sends one request and gives the status line and the body.
fn ask(mut stream: impl Read + Write, method: &str, path: &str) -> (String, String) {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: agent\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().to_owned();
    (status, body.to_owned())
}

const ANY: BindAddress = BindAddress::One(SocketAddr::new(
    std::net::IpAddr::V4(Ipv4Addr::LOCALHOST),
    0,
));

#[test]
fn addresses_are_read_as_the_original_writes_them() {
    let check = |text: &str, expect: Option<BindAddress>| {
        assert_eq!(text.parse::<BindAddress>().ok(), expect, "{text}");
    };
    check("0", Some(BindAddress::Off));
    check(":6443", Some(BindAddress::Any(6443)));
    let one = |text: &str| Some(BindAddress::One(text.parse().unwrap()));
    check("127.0.0.1:8080", one("127.0.0.1:8080"));
    check("[::1]:8080", one("[::1]:8080"));
    for wrong in ["", ":", ":x", ":65536", "8080", "localhost", "a:b"] {
        check(wrong, None);
    }
}

#[test]
fn answers_are_by_path_and_method() {
    let background = Background::start().unwrap();
    let answer = |path: &str| match path {
        "/well" => Answer::verdict(None),
        "/ill" => Answer::verdict(Some("stuck".to_owned())),
        _ => Answer::not_found(),
    };
    let at = listen(background.handle(), "a test", ANY, None, answer).unwrap();
    let check = |method: &str, path: &str, status: &str, body: &str| {
        let (found, text) = ask(Stream::connect(at).unwrap(), method, path);
        assert!(found.starts_with(&format!("HTTP/1.1 {status}")), "{found}");
        assert_eq!(text, body);
    };
    check("GET", "/well", "200", "ok");
    check("GET", "/well?verbose", "200", "ok");
    check("HEAD", "/well", "200", "");
    check("GET", "/ill", "500", "stuck");
    check("GET", "/other", "404", "not found");
    check("POST", "/well", "405", "only GET");
    // A taken address costs what is served there, and nothing else.
    let taken = BindAddress::One(at);
    assert_eq!(
        listen(background.handle(), "another", taken, None, |_| {
            Answer::not_found()
        }),
        None
    );
    // More than are served at a time, none of which asks: whoever does is served once they are closed.
    let silent: Vec<Stream> = (0..CONNECTIONS)
        .map(|_| Stream::connect(at).unwrap())
        .collect();
    drop(silent);
    check("GET", "/well", "200", "ok");
}

/// What who is let in is told, at the end.
const SERVED: &str = "\r\n\r\nok";

/// A certificate and its key as kubelet puts them: behind a link that is swapped.
fn put(directory: &Path, version: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["agent".to_owned()]).unwrap();
    let below = directory.join(version);
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(below.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let link = directory.join("..new");
    std::os::unix::fs::symlink(version, &link).unwrap();
    std::fs::rename(&link, directory.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        let link = directory.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(format!("..data/{name}"), link).unwrap();
        }
    }
    CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
}

fn client(
    trusted: &CertificateDer<'static>,
    version: &'static rustls::SupportedProtocolVersion,
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("agent").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

#[test]
fn a_rotated_certificate_is_served_by_the_next_connection() {
    let background = Background::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kept = std::fs::File::open(directory.path()).unwrap();
    // Through the descriptor, as in the pod: the path itself does not exist where the agent runs.
    let number = std::os::fd::AsRawFd::as_raw_fd(&kept).to_string();
    let certificates = Certificates::new("/nowhere".into(), |_| Some(number.clone()));
    let answer = |_: &str| Answer::verdict(None);
    let gate = Gate::default();
    gate.let_in("known", "/");
    let at = listen(
        background.handle(),
        "a test",
        ANY,
        Some((certificates, gate)),
        answer,
    )
    .unwrap();
    let ask = |trusted: &CertificateDer<'static>, version, token: &str| {
        let stream = Stream::connect(at).unwrap();
        let mut stream = StreamOwned::new(client(trusted, version), stream);
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: agent\r\nAuthorization: Bearer {token}\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, io::Error>(text)
    };
    let get = |trusted, version| ask(trusted, version, "known");
    let (new, old) = (&rustls::version::TLS13, &rustls::version::TLS12);
    // No certificate yet: the connection is closed, and the next one looks again.
    let mut nothing = Vec::new();
    Stream::connect(at)
        .unwrap()
        .read_to_end(&mut nothing)
        .unwrap();
    assert!(nothing.is_empty());

    let first = put(directory.path(), "first");
    for version in [new, old, new] {
        assert!(get(&first, version).unwrap().ends_with(SERVED));
    }
    // Nobody is there who could say whose another token is.
    let refused = ask(&first, new, "other").unwrap();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let second = put(directory.path(), "second");
    assert!(get(&first, new).is_err(), "the certificate of before");
    assert!(get(&second, new).unwrap().ends_with(SERVED));
    // Half of a rotation: what was served is served on.
    std::fs::write(directory.path().join("second/tls.key"), "no key").unwrap();
    assert!(get(&second, new).unwrap().ends_with(SERVED));
}

#[test]
fn an_address_that_is_taken_is_tried_again() {
    let background = Background::start().unwrap();
    let before = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = before.local_addr().unwrap();
    let address = BindAddress::One(at);
    let answer = |_: &str| Answer::verdict(None);
    assert_eq!(
        listen(background.handle(), "a test", address, None, answer),
        None
    );
    drop(before);
    let end = std::time::Instant::now() + 4 * REBIND;
    let stream = loop {
        match Stream::connect(at) {
            Ok(stream) => break stream,
            Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(ask(stream, "GET", "/").1, "ok");
}
