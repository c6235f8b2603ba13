//! A real registry on a loopback port, with TLS and a password.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use seed::auth::AuthFile;
use seed::trust::Trust;
use tempfile::TempDir;

pub(crate) const USER: &str = "seeder";
pub(crate) const PASSWORD: &str = "pass:word";

/// Debian's docker-registry; ends with this value.
pub(crate) struct Loopback {
    dir: TempDir,
    process: Child,
    port: u16,
}

impl Loopback {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run = |program: &str, args: &str, input: &str| {
            let mut child = Command::new(program)
                .args(args.split(' '))
                .current_dir(dir.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(input.as_bytes())
                .unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{program} {args}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        run(
            "openssl",
            &format!("req -x509 {key} -subj /CN=test-ca -keyout ca.key -out ca.crt"),
            "",
        );
        run(
            "openssl",
            &format!(
                "req -x509 {key} -subj /CN=registry -CA ca.crt -CAkey ca.key -keyout tls.key \
                 -out tls.crt -addext subjectAltName=IP:127.0.0.1 \
                 -addext basicConstraints=critical,CA:FALSE"
            ),
            "",
        );
        let password = run("htpasswd", &format!("-niB {USER}"), PASSWORD);
        fs::write(dir.path().join("htpasswd"), password).unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n  secret: test\n  tls:\n    certificate: {}\n    key: {}\n\
             auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            path("storage"),
            path("tls.crt"),
            path("tls.key"),
            path("htpasswd"),
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .map(|line| line.unwrap())
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            })
            .expect("the registry says where it listens");
        // Nobody reads on, but the registry must be able to write.
        std::thread::spawn(move || lines.count());
        Self { dir, process, port }
    }

    pub(crate) fn image(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    pub(crate) fn trust(&self) -> Trust {
        let mut trust = Trust::system();
        trust.add(&self.ca()).unwrap();
        trust
    }

    /// The document of a pull secret.
    pub(crate) fn auth_json(&self, password: &str) -> String {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let auth = engine.encode(format!("{USER}:{password}"));
        format!(
            r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"{auth}"}}}}}}"#,
            self.port
        )
    }

    pub(crate) fn auth(&self) -> AuthFile {
        AuthFile::parse(self.auth_json(PASSWORD).as_bytes()).unwrap()
    }

    /// The file in which the registry keeps a blob.
    pub(crate) fn blob(&self, hex: &str) -> PathBuf {
        let blobs = Path::new("storage/docker/registry/v2/blobs/sha256");
        self.dir
            .path()
            .join(blobs)
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    pub(crate) fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}
