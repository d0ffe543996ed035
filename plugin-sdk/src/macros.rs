//! What turns a function or a type into a plugin: one macro for each point, and one for the
//! manifest. Natively they only say what the plugin is, and run its test vectors in `cargo test`.

/// The manifest of a plugin, as [`crate::manifest!`] puts it together.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ManifestText {
    /// The JSON.
    pub json: &'static str,
    /// Where its test vectors are, if it has any.
    pub vectors: Option<&'static str>,
}

/// Declares what the plugin is. Name and version are those of the crate. Once, in the root of the
/// crate:
///
/// ```text
/// manifest! {
///     says: "Orders above an amount.",
///     points: ["filter"],
///     properties: "all",
///     capabilities: ["log", "metrics"],
///     limits: { memory_bytes: 1048576 },
///     config: [{ name: "least", kind: "number", required: true, says: "least amount" }],
///     tests: "tests/vectors.json",
/// }
/// ```
///
/// All but `says` and `points` may be left out; the order is this one. Without `capabilities` the
/// plugin has `log`, which is how the text of a panic reaches its author. With `properties: "none"`
/// messages come without their properties, which is faster: for what decides by the tag, by what
/// every message has, or by the body. To read a property then is a panic. `kind` is `text`,
/// `integer`, `number` or `boolean`. `tests` names a file with a list of test vectors
/// ([`crate::abi::manifest::TestVector`]); `UPDATE_EXPECT=1 cargo test` writes what comes out into
/// it.
#[macro_export]
macro_rules! manifest {
    (
        says: $says:literal,
        points: [$($point:literal),+ $(,)?]
        $(, properties: $properties:literal)?
        $(, capabilities: [$($capability:literal),* $(,)?])?
        $(, limits: { $($limit:ident: $most:literal),* $(,)? })?
        $(, config: [$({ $($field:ident: $value:literal),+ $(,)? }),* $(,)?])?
        $(, tests: $tests:literal)?
        $(,)?
    ) => {
        /// The manifest of this plugin.
        pub const MANIFEST: $crate::ManifestText = $crate::ManifestText {
            json: concat!(
                "{\"name\":\"", env!("CARGO_PKG_NAME"), "\",\"version\":\"",
                env!("CARGO_PKG_VERSION"), "\",\"says\":", stringify!($says),
                ",\"points\":", $crate::__list!($($point),+),
                $(",\"properties\":", stringify!($properties),)?
                ",\"capabilities\":", $crate::__capabilities!($([$($capability),*])?),
                $(",\"limits\":", $crate::__object!($($limit: $most),*),)?
                $(",\"config\":[", $crate::__objects!($({ $($field: $value),+ }),*), "]",)?
                $(",\"tests\":", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $tests)),)?
                "}",
            ),
            vectors: $crate::__vectors!($($tests)?),
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            const LENGTH: usize = MANIFEST.json.len();
            const fn bytes() -> [u8; LENGTH] {
                let mut bytes = [0; LENGTH];
                bytes.copy_from_slice(MANIFEST.json.as_bytes());
                bytes
            }
            #[used]
            #[unsafe(link_section = "switchyard:manifest")]
            static SECTION: [u8; LENGTH] = bytes();
        };

        #[cfg(test)]
        mod manifest_of_the_plugin {
            #[test]
            fn is_accepted() {
                $crate::testing::manifest(&super::MANIFEST);
            }
        }
    };
}

/// A JSON list of literals.
#[doc(hidden)]
#[macro_export]
macro_rules! __list {
    () => { "[]" };
    ($first:literal $(, $rest:literal)*) => {
        concat!("[", stringify!($first), $(",", stringify!($rest),)* "]")
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __capabilities {
    () => { "[\"log\"]" };
    ([$($capability:literal),*]) => { $crate::__list!($($capability),*) };
}

/// A JSON object of names and literals.
#[doc(hidden)]
#[macro_export]
macro_rules! __object {
    () => { "{}" };
    ($first:ident: $value:literal $(, $field:ident: $more:literal)*) => {
        concat!(
            "{\"", stringify!($first), "\":", stringify!($value),
            $(",\"", stringify!($field), "\":", stringify!($more),)* "}"
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __objects {
    () => { "" };
    ({ $($first:tt)+ } $(, { $($rest:tt)+ })*) => {
        concat!($crate::__object!($($first)+) $(, ",", $crate::__object!($($rest)+))*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __vectors {
    () => {
        None
    };
    ($tests:literal) => {
        Some(concat!(env!("CARGO_MANIFEST_DIR"), "/", $tests))
    };
}

/// Makes a filter: of a function `fn(&Message) -> bool`, or, as `filter!(type T)`, of a type that
/// is a [`crate::Filter`]. A function takes neither an expression nor settings.
#[macro_export]
macro_rules! filter {
    (type $filter:ty) => {
        /// The filter of this plugin.
        pub type FilterPoint = $filter;
        $crate::__point!(filter, filter_vectors, FilterPoint, FilterGuest, export_filter);
    };
    ($filter:path) => {
        /// The filter of this plugin.
        #[derive(Clone, Copy, Debug)]
        pub struct FilterPoint;

        impl $crate::Filter for FilterPoint {
            fn compile(expression: &str, _: &$crate::Config) -> Result<Self, String> {
                if !expression.trim().is_empty() {
                    let name = env!("CARGO_PKG_NAME");
                    return Err(format!("`{name}` takes no expression, `{expression}` is one"));
                }
                Ok(Self)
            }

            fn keep(&self, message: &$crate::Message<'_>) -> bool {
                $filter(message)
            }
        }

        $crate::__point!(filter, filter_vectors, FilterPoint, FilterGuest, export_filter);
    };
}

/// Makes a dedupe plugin: of a function `fn(&Message) -> Option<String>` and a
/// [`crate::Policy`], or, as `dedupe!(type T)`, of a type that is a [`crate::Dedupe`].
#[macro_export]
macro_rules! dedupe {
    (type $dedupe:ty) => {
        /// The dedupe rule of this plugin.
        pub type DedupePoint = $dedupe;
        $crate::__point!(dedupe, dedupe_vectors, DedupePoint, DedupeGuest, export_dedupe);
    };
    ($key:path, $policy:expr) => {
        /// The dedupe rule of this plugin.
        #[derive(Clone, Copy, Debug)]
        pub struct DedupePoint;

        impl $crate::Dedupe for DedupePoint {
            fn open(_: &$crate::Config) -> Result<Self, String> {
                Ok(Self)
            }

            fn policy(&self) -> $crate::Policy {
                $policy
            }

            fn key(&self, message: &$crate::Message<'_>, key: &mut Vec<u8>) {
                key.extend_from_slice($key(message).unwrap_or_default().as_bytes());
            }
        }

        $crate::__point!(dedupe, dedupe_vectors, DedupePoint, DedupeGuest, export_dedupe);
    };
}

/// Makes a retry policy: of a function `fn(&Attempt) -> Next`, or, as `retry!(type T)`, of a type
/// that is a [`crate::Retry`].
#[macro_export]
macro_rules! retry {
    (type $retry:ty) => {
        /// The retry policy of this plugin.
        pub type RetryPoint = $retry;
        $crate::__point!(retry, retry_vectors, RetryPoint, RetryGuest, export_retry);
    };
    ($decide:path) => {
        /// The retry policy of this plugin.
        #[derive(Clone, Copy, Debug)]
        pub struct RetryPoint;

        impl $crate::Retry for RetryPoint {
            fn open(_: &$crate::Config) -> Result<Self, String> {
                Ok(Self)
            }

            fn decide(&self, attempt: &$crate::Attempt) -> $crate::Next {
                $decide(attempt)
            }
        }

        $crate::__point!(retry, retry_vectors, RetryPoint, RetryGuest, export_retry);
    };
}

/// Makes a transaction check: of a function `fn(&Half) -> Fate`, or, as `txn_check!(type T)`, of a
/// type that is a [`crate::TxnCheck`].
#[macro_export]
macro_rules! txn_check {
    (type $check:ty) => {
        /// The transaction check of this plugin.
        pub type TxnCheckPoint = $check;
        $crate::__point!(
            txn_check,
            txn_check_vectors,
            TxnCheckPoint,
            TxnCheckGuest,
            export_txn_check
        );
    };
    ($check:path) => {
        /// The transaction check of this plugin.
        #[derive(Clone, Copy, Debug)]
        pub struct TxnCheckPoint;

        impl $crate::TxnCheck for TxnCheckPoint {
            fn open(_: &$crate::Config) -> Result<Self, String> {
                Ok(Self)
            }

            fn check(&self, half: &$crate::Half) -> $crate::Fate {
                $check(half)
            }
        }

        $crate::__point!(
            txn_check,
            txn_check_vectors,
            TxnCheckPoint,
            TxnCheckGuest,
            export_txn_check
        );
    };
}

/// Makes an interceptor: of a function `fn(&Message) -> Answer`, which sees whole bodies up to
/// 1 MiB, or, as `interceptor!(type T)`, of a type that is a [`crate::Interceptor`].
#[macro_export]
macro_rules! interceptor {
    (type $interceptor:ty) => {
        /// The interceptor of this plugin.
        pub type InterceptorPoint = $interceptor;
        $crate::__point!(
            interceptor,
            interceptor_vectors,
            InterceptorPoint,
            InterceptorGuest,
            export_interceptor
        );
    };
    ($apply:path) => {
        /// The interceptor of this plugin.
        #[derive(Clone, Copy, Debug)]
        pub struct InterceptorPoint;

        impl $crate::Interceptor for InterceptorPoint {
            fn open(_: &$crate::Config) -> Result<Self, String> {
                Ok(Self)
            }

            fn needs(&self) -> $crate::Needs {
                $crate::Needs::body()
            }

            fn apply(&self, message: &$crate::Message<'_>) -> $crate::Answer {
                $apply(message)
            }
        }

        $crate::__point!(
            interceptor,
            interceptor_vectors,
            InterceptorPoint,
            InterceptorGuest,
            export_interceptor
        );
    };
}

/// The exports of a point in a guest, and its test vectors in a native test.
#[doc(hidden)]
#[macro_export]
macro_rules! __point {
    ($point:ident, $vectors:ident, $type:ident, $guest:ident, $export:ident) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::guest::$guest<$type>;
    $crate::guest::$point::$export!(Exported with_types_in $crate::guest::$point);
        };

        #[cfg(test)]
        mod $vectors {
            #[test]
            fn comes_to_what_the_test_vectors_say() {
                $crate::testing::$point::<super::$type>(&super::MANIFEST);
            }
        }
    };
}
