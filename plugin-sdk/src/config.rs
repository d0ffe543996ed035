//! Settings, and what a plugin wants to see.

/// The settings of a plugin, as the operator wrote them. The broker has checked them against the
/// manifest: what is not declared there does not arrive here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    settings: Vec<(String, String)>,
}

impl Config {
    /// The text of a setting, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The text of a setting.
    ///
    /// # Errors
    /// A sentence when it is not set.
    pub fn required(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("the setting `{name}` is missing"))
    }

    /// A setting read as something else: a number, `true` or `false`, whatever has `FromStr`.
    ///
    /// # Errors
    /// A sentence when it is set to something that cannot be read so.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse = |text: &str| {
            text.trim().parse().map_err(|_| format!("the setting `{name}` is `{text}`"))
        };
        self.get(name).map(parse).transpose()
    }

    /// All settings, names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Config {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(settings: I) -> Self {
        let settings = settings.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { settings: settings.collect() }
    }
}

/// What the broker puts into a message for the plugin. By default no body and all properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of each body, at most 1 MiB ([`crate::abi::frame::BODY_BYTES_MAX`]); a longer body is
    /// cut there. 0 for none.
    pub body_bytes: u32,
    /// The properties that the plugin looks at; none named means all. The broker may give more. A
    /// plugin that looks at none says so in its manifest: `properties: "none"`.
    pub properties: Vec<String>,
}

impl Needs {
    /// Whole bodies, up to 1 MiB.
    #[must_use]
    pub fn body() -> Self {
        Self { body_bytes: crate::abi::frame::BODY_BYTES_MAX as u32, ..Self::default() }
    }
}
