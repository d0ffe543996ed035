//! Records as the log holds them, made byte by byte from the drawing in `message.rs`.

/// What a record says, for tests.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    pub born_ms: u64,
    pub topic: u32,
    pub id: [u8; 16],
    pub tag: String,
    pub properties: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The stored record. Its checksums are any numbers: a plugin has no use for them.
pub fn record(parts: &Parts) -> Vec<u8> {
    let mut variable = parts.tag.clone().into_bytes();
    for (name, value) in &parts.properties {
        variable.extend((name.len() as u16).to_le_bytes());
        variable.extend((value.len() as u16).to_le_bytes());
        variable.extend(name.as_bytes());
        variable.extend(value.as_bytes());
    }
    let mut out = Vec::new();
    out.extend(((80 + variable.len() + parts.body.len()) as u32).to_le_bytes());
    out.extend(80u16.to_le_bytes());
    out.extend([0; 8]);
    out.extend(parts.born_ms.to_le_bytes());
    out.extend([0; 8]);
    out.extend([0; 12]);
    out.extend((parts.tag.len() as u16).to_le_bytes());
    out.extend((parts.properties.len() as u16).to_le_bytes());
    out.extend((parts.body.len() as u32).to_le_bytes());
    out.extend(parts.topic.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(parts.id);
    out.extend(0xC0FF_EE00u32.to_le_bytes());
    out.extend(0xB0D1_EC2Cu32.to_le_bytes());
    assert_eq!(out.len(), 80);
    out.extend(variable);
    out.extend(&parts.body);
    out
}
