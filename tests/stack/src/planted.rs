//! Bugs that are planted on purpose, each in what client and broker take from outside; see
//! PLANTED.md.

macro_rules! plants {
    ($( $variant:ident $name:literal $seeds:literal )*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Plant { $( #[doc = $name] $variant, )* }

        impl Plant {
            /// Every bug, in the order of PLANTED.md.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// Its name in PLANTED.md.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// Seeds in which it must be caught.
            #[must_use]
            pub fn seeds_max(self) -> u64 {
                match self { $( Self::$variant => $seeds, )* }
            }
        }
    };
}

plants! {
    NamesRepeat "names-repeat" 50
    MovesRefused "moves-refused" 100
    TimerForgotten "timer-forgotten" 20
    SyncSkipped "sync-skipped" 200
    ClockAhead "clock-ahead" 50
    VerdictChanges "verdict-changes" 50
    KeysForgotten "keys-forgotten" 50
}
