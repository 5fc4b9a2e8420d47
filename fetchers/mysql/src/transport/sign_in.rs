//! Signing in: the server's greeting, encryption, and the proof that we know the password, by whatever plugin the account
//! has. The packets are the connection's.

use mysql_common::crypto;
use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::Ed25519KeyPair;

use crate::limits::EVENT_BYTES_MAX;
use crate::options::{ServerOptions, TlsMode};
use crate::transport::TransportError;
use crate::transport::connection::{Connection, EOF, ERR, OK, malformed, refused};
use crate::transport::tls::Encryption;
use crate::wire::{Bytes, Malformed};

const AUTH_MORE: u8 = 0x01;

const NATIVE: &str = "mysql_native_password";
const CACHING_SHA2: &str = "caching_sha2_password";
const SHA256: &str = "sha256_password";
const CLEARTEXT: &str = "mysql_clear_password";
const ED25519: &str = "client_ed25519";
const PARSEC: &str = "parsec";

const LONG_PASSWORD: u32 = 1;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
const CONNECT_ATTRS: u32 = 1 << 20;

/// What the server says first.
struct Greeting {
    capabilities: u32,
    plugin: String,
    nonce: Vec<u8>,
}

impl Greeting {
    fn read(payload: &[u8]) -> Result<Greeting, Malformed> {
        const VERSION: u8 = 10;
        let mut b = Bytes(payload);
        if b.u8()? != VERSION {
            return Err(Malformed("the server greets in another version of the protocol than 10"));
        }
        b.until_zero()?;
        b.u32()?;
        let mut nonce = b.take(8)?.to_vec();
        b.u8()?;
        let low = b.u16()?;
        b.take(1 + 2)?;
        let high = b.u16()?;
        b.take(1 + 10)?;
        nonce.extend_from_slice(b.take(12)?);
        b.take(1)?;
        let plugin = b.until_zero().unwrap_or(b.0);
        let capabilities = u32::from(high) << 16 | u32::from(low);
        Ok(Greeting { capabilities, plugin: String::from_utf8_lossy(plugin).into_owned(), nonce })
    }
}

/// A sign-in under way.
struct SignIn<'a> {
    connection: &'a mut Connection,
    options: &'a ServerOptions,
    plugin: String,
    nonce: Vec<u8>,
}

/// From the first packet of a new connection until statements can be sent.
pub(crate) async fn sign_in(
    connection: &mut Connection,
    options: &ServerOptions,
) -> Result<(), TransportError> {
    let payload = connection.packet().await?;
    if payload.first() == Some(&ERR) {
        return Err(refused(&payload));
    }
    let greeting = Greeting::read(&payload).map_err(malformed)?;
    let mut flags = LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;
    flags |= greeting.capabilities & CONNECT_ATTRS;
    if encrypts(&greeting, options)? {
        flags |= SSL;
        connection.send(&response_head(flags)).await?;
        connection.encrypt(Encryption::new(options)?).await?;
    }
    // A plugin that we do not begin with is the server's default; the account's own follows by a switch.
    let plugin = if greeting.plugin == CACHING_SHA2 { CACHING_SHA2 } else { NATIVE }.to_owned();
    let mut sign_in = SignIn { connection, options, plugin, nonce: greeting.nonce };
    let proof = sign_in.proof()?;
    let response = response(flags, options, &proof, &sign_in.plugin);
    sign_in.connection.send(&response).await?;
    sign_in.prove().await
}

/// Whether the connection is encrypted, as was asked for and as the server can.
fn encrypts(greeting: &Greeting, options: &ServerOptions) -> Result<bool, TransportError> {
    match (options.tls.mode, greeting.capabilities & SSL != 0) {
        (TlsMode::Off, _) | (TlsMode::Prefer, false) => Ok(false),
        (_, true) => Ok(true),
        (_, false) => Err(TransportError::setup(
            format!("the server {}:{} offers no encryption", options.host, options.port),
            "give it a certificate (ssl_cert, ssl_key), or set `tls = \"off\"` where the network is trusted",
        )),
    }
}

/// What the answer to the greeting begins with; alone, it asks for encryption.
fn response_head(flags: u32) -> Vec<u8> {
    const UTF8MB4: u8 = 45;
    let mut head = flags.to_le_bytes().to_vec();
    head.extend_from_slice(&(EVENT_BYTES_MAX as u32).to_le_bytes());
    head.push(UTF8MB4);
    head.extend_from_slice(&[0; 23]);
    head
}

fn response(flags: u32, options: &ServerOptions, proof: &[u8], plugin: &str) -> Vec<u8> {
    const ATTRIBUTES: [(&str, &str); 2] =
        [("program_name", "tidemill"), ("_client_version", env!("CARGO_PKG_VERSION"))];
    let mut response = response_head(flags);
    response.extend_from_slice(options.user.as_bytes());
    response.push(0);
    response.push(proof.len() as u8);
    response.extend_from_slice(proof);
    response.extend_from_slice(plugin.as_bytes());
    response.push(0);
    if flags & CONNECT_ATTRS != 0 {
        let texts = ATTRIBUTES.iter().flat_map(|(name, value)| [name, value]);
        // A length below 251 is one byte, and so is that of all of them.
        let attributes: Vec<u8> =
            texts.flat_map(|text| [&[text.len() as u8], text.as_bytes()].concat()).collect();
        response.push(attributes.len() as u8);
        response.extend_from_slice(&attributes);
    }
    response
}

impl SignIn<'_> {
    /// Answers the server until it lets us in or not.
    async fn prove(&mut self) -> Result<(), TransportError> {
        loop {
            let payload = self.connection.packet().await?;
            match payload.split_first() {
                Some((&OK, _)) => return Ok(()),
                Some((&ERR, _)) => return Err(refused(&payload)),
                Some((&EOF, switch)) => {
                    self.switch(switch)?;
                    let proof = self.proof()?;
                    self.connection.send(&proof).await?;
                }
                Some((&AUTH_MORE, more)) => self.prove_more(more).await?,
                // The first releases of the plugin leave the mark out.
                Some((b'P', _)) if self.plugin == PARSEC => self.prove_more(&payload).await?,
                _ => {
                    return Err(malformed(Malformed(
                        "the server answers the sign-in with an unknown packet",
                    )));
                }
            }
        }
    }

    /// The server asks for another plugin, with another nonce.
    fn switch(&mut self, switch: &[u8]) -> Result<(), TransportError> {
        let mut b = Bytes(switch);
        let plugin = b.until_zero().map_err(malformed)?;
        self.plugin = String::from_utf8_lossy(plugin).into_owned();
        let length = match self.plugin.as_str() {
            ED25519 | PARSEC => 32,
            NATIVE | CACHING_SHA2 | SHA256 => 20,
            _ => 0,
        };
        self.nonce = b.take(length).map_err(malformed)?.to_vec();
        Ok(())
    }

    /// The first that the plugin has us send.
    fn proof(&self) -> Result<Vec<u8>, TransportError> {
        let options = self.options;
        let password = options.password.reveal().as_bytes();
        match self.plugin.as_str() {
            NATIVE => Ok(scramble_native(&self.nonce, password).map(Vec::from).unwrap_or_default()),
            CACHING_SHA2 => Ok(scramble_sha256(&self.nonce, password).map(Vec::from).unwrap_or_default()),
            ED25519 => Ok(create_response_for_ed25519(password, &self.nonce).to_vec()),
            // Asks for the salt.
            PARSEC => Ok(Vec::new()),
            SHA256 if password.is_empty() => Ok(vec![0]),
            SHA256 if self.connection.is_encrypted() => Ok(self.secret()),
            SHA256 => Err(TransportError::setup(
                format!(
                    "the account `{}` signs in by {SHA256}, which needs an encrypted connection",
                    options.user
                ),
                "set `tls = \"require\"` or more, or give the account caching_sha2_password",
            )),
            CLEARTEXT if !options.cleartext_password => Err(TransportError::setup(
                format!("the server wants the password of `{}` as it is ({CLEARTEXT})", options.user),
                "where that is meant, as with tokens of IAM, set `cleartext_password = true` and `tls = \"verify-identity\"`",
            )),
            CLEARTEXT if !self.connection.is_encrypted() || !options.tls.mode.verifies() => {
                Err(TransportError::setup(
                    "a password is sent as it is only to a server that has proved who it is".to_owned(),
                    "set `tls = \"verify-identity\"` (or \"verify-ca\") and `tls_ca`",
                ))
            }
            CLEARTEXT => Ok(self.secret()),
            other => Err(TransportError::setup(
                format!("the account `{}` signs in by {other}, which is not known here", options.user),
                format!("create it with {CACHING_SHA2} (MariaDB: {NATIVE}, ed25519 or parsec)"),
            )),
        }
    }

    /// The password as a text of C.
    fn secret(&self) -> Vec<u8> {
        let mut secret = self.options.password.reveal().as_bytes().to_vec();
        secret.push(0);
        secret
    }

    /// The server knows the password's hash already, or wants more.
    async fn prove_more(&mut self, more: &[u8]) -> Result<(), TransportError> {
        const KNOWN: u8 = 3;
        const WANTED: u8 = 4;
        match (self.plugin.as_str(), more) {
            (CACHING_SHA2, [KNOWN]) => Ok(()),
            (CACHING_SHA2, [WANTED]) => {
                let secret = match self.connection.is_encrypted() {
                    true => self.secret(),
                    false => self.under_public_key().await?,
                };
                self.connection.send(&secret).await
            }
            (PARSEC, salt) => {
                let proof = parsec(self.options.password.reveal().as_bytes(), &self.nonce, salt);
                self.connection.send(&proof.map_err(malformed)?).await
            }
            _ => Err(malformed(Malformed("the server asks for more in an unknown way"))),
        }
    }

    /// The password as only the server can read it.
    async fn under_public_key(&mut self) -> Result<Vec<u8>, TransportError> {
        const GIVE_KEY: [u8; 1] = [2];
        self.connection.send(&GIVE_KEY).await?;
        let answer = self.connection.packet().await?;
        let key = match answer.split_first() {
            Some((&AUTH_MORE, key)) if key.starts_with(b"-----BEGIN PUBLIC KEY-----") => key,
            _ => return Err(malformed(Malformed("the server gives no public key"))),
        };
        let mut secret = self.secret();
        secret.iter_mut().zip(self.nonce.iter().cycle()).for_each(|(byte, nonce)| *byte ^= nonce);
        // The library panics on a key that is none, and on a password too long for it: both come from outside.
        let encrypted = std::panic::catch_unwind(|| crypto::encrypt(&secret, key));
        encrypted.map_err(|_| malformed(Malformed("the server's public key cannot be used for the password")))
    }
}

/// MariaDB's parsec: a key derived from the password signs both sides' nonces.
fn parsec(password: &[u8], nonce: &[u8], salt: &[u8]) -> Result<Vec<u8>, Malformed> {
    const PBKDF2: u8 = b'P';
    const FACTOR_MAX: u8 = 3;
    let (algorithm, factor, salt) = match salt {
        [algorithm, factor, salt @ ..] if !salt.is_empty() => (*algorithm, *factor, salt),
        _ => return Err(Malformed("the salt of parsec is too short")),
    };
    if algorithm != PBKDF2 || factor > FACTOR_MAX {
        return Err(Malformed("the server derives the key of parsec in an unknown way"));
    }
    let rounds = std::num::NonZeroU32::new(1024 << factor).expect("a shifted one is not zero");
    let mut seed = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, salt, password, &mut seed);
    let key =
        Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Malformed("the key of parsec is unusable"))?;
    let mut own = [0; 32];
    let filled = SystemRandom::new().fill(&mut own);
    filled.map_err(|_| Malformed("the system gives no random numbers"))?;
    let signature = key.sign(&[nonce, &own].concat());
    Ok([&own[..], signature.as_ref()].concat())
}
