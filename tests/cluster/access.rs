//! Who may do what: keys, tokens and kubeconfig files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

/// What stands before the 65 bytes of a P-256 point to make a SubjectPublicKeyInfo of it (RFC 5480).
const P256_PUBLIC_KEY: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Writes the key that signs service accounts' tokens, and the administrator's token.
pub fn write_keys(folder: &Path) -> io::Result<()> {
    let chance = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &chance).expect("the system has chance");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &chance).expect("a fresh key");
    let public = [&P256_PUBLIC_KEY, pair.public_key().as_ref()].concat();
    fs::write(folder.join("accounts.key"), pem("PRIVATE KEY", key.as_ref()))?;
    fs::write(folder.join("accounts.pub"), pem("PUBLIC KEY", &public))?;
    fs::write(folder.join("admin.token"), random_token())?;
    let tokens = format!("{},admin,admin,system:masters\n", admin_token(folder)?);
    fs::write(folder.join("tokens.csv"), tokens)
}

pub fn admin_token(folder: &Path) -> io::Result<String> {
    fs::read_to_string(folder.join("admin.token"))
}

/// Writes `NAME.kubeconfig` for the bearer of the token.
pub fn write_kubeconfig(folder: &Path, url: &str, name: &str, token: &str) -> io::Result<PathBuf> {
    let authority = folder.join("certs/apiserver.crt");
    let path = folder.join(format!("{name}.kubeconfig"));
    let text = KUBECONFIG.replace("@URL@", url).replace("@AUTHORITY@", &authority.display().to_string());
    fs::write(&path, text.replace("@TOKEN@", token).replace("@NAME@", name))?;
    Ok(path)
}

/// Whether the API server has written its certificate with its authority, and the key, to the end; what is missing otherwise.
pub fn whole(certificates: &Path) -> Result<(), String> {
    let ends = |file: &str, what: &str| {
        fs::read_to_string(certificates.join(file)).map_or(0, |text| text.matches(what).count())
    };
    let (chain, key) =
        (ends("apiserver.crt", "-----END CERTIFICATE-----\n"), ends("apiserver.key", "PRIVATE KEY-----\n"));
    match (chain, key) {
        (2.., 2) => Ok(()),
        _ => Err(format!("the API server has written {chain} of 2 certificates and {key} of 2 lines around its key")),
    }
}

/// Speaks TLS as the API server does, whose certificate is for loopback.
pub fn tls(certificates: &Path) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificates.join("apiserver.crt")).map_err(io::Error::other)?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(certificates.join("apiserver.key")).map_err(io::Error::other)?;
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

const KUBECONFIG: &str = r#"apiVersion: v1
kind: Config
clusters:
- name: piton-test
  cluster: { server: "@URL@", certificate-authority: "@AUTHORITY@" }
users:
- name: "@NAME@"
  user: { token: "@TOKEN@" }
contexts:
- name: piton-test
  context: { cluster: piton-test, user: "@NAME@" }
current-context: piton-test
"#;

fn random_token() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has chance");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().chain([&0, &0]).take(3).fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}
