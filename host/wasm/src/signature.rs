//! Who vouches for a plugin: a detached Ed25519 signature over the hash of its bytes.
use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

/// SHA-256 of an uploaded file: its name everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginHash(pub [u8; 32]);

impl PluginHash {
    /// The hash of a file.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for PluginHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for PluginHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PluginHash({self})")
    }
}

/// An Ed25519 key that a tenant trusts, as its 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustedKey(pub [u8; 32]);

impl TrustedKey {
    /// Whether this key signed the hash: the message is the 32 bytes of the hash.
    #[must_use]
    pub fn signed(&self, hash: &PluginHash, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&hash.0, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    #[test]
    fn only_the_signer_of_these_bytes_signed_them() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = TrustedKey(pair.public_key().as_ref().try_into().unwrap());
        let hash = PluginHash::of(b"plugin");
        let mut signature = pair.sign(&hash.0).as_ref().to_vec();
        assert!(key.signed(&hash, &signature));
        assert!(!key.signed(&PluginHash::of(b"other"), &signature));
        assert!(!TrustedKey([1; 32]).signed(&hash, &signature));
        assert!(!key.signed(&hash, &signature[..63]));
        signature[0] ^= 1;
        assert!(!key.signed(&hash, &signature));
    }

    #[test]
    fn a_hash_is_shown_as_sha256sum_shows_it() {
        let says = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(PluginHash::of(b"").to_string(), says);
    }
}
