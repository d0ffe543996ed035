//! The exports of a component, over the traits of this crate. Only the point that a plugin names
//! with its macro is linked.

#[doc(hidden)]
pub mod capabilities {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        inline: "package switchyard:capabilities;
            world capabilities {
                import switchyard:plugin/log@1.0.0;
                import switchyard:plugin/metrics@1.0.0;
                import switchyard:plugin/clock@1.0.0;
                import switchyard:plugin/kv@1.0.0;
            }",
        path: "../protocol/abi/wit",
        generate_all,
    });
}

macro_rules! bindings {
    ($module:ident, $export:literal, $inline:literal) => {
        #[doc(hidden)]
        pub mod $module {
            #![allow(missing_docs)]
            wit_bindgen::generate!({
                inline: $inline,
                path: "../protocol/abi/wit",
                generate_all,
                pub_export_macro: true,
                export_macro_name: $export,
            });
        }
    };
}

bindings!(
    filter,
    "export_filter",
    "package switchyard:sdk-filter;
     world filter-guest { export switchyard:plugin/filter@1.0.0; }"
);
bindings!(
    dedupe,
    "export_dedupe",
    "package switchyard:sdk-dedupe;
     world dedupe-guest { export switchyard:plugin/dedupe@1.0.0; }"
);
bindings!(
    retry,
    "export_retry",
    "package switchyard:sdk-retry;
     world retry-guest { export switchyard:plugin/retry@1.0.0; }"
);
bindings!(
    txn_check,
    "export_txn_check",
    "package switchyard:sdk-txn-check;
     world txn-check-guest { export switchyard:plugin/txn-check@1.0.0; }"
);
bindings!(
    interceptor,
    "export_interceptor",
    "package switchyard:sdk-interceptor;
     world interceptor-guest { export switchyard:plugin/interceptor@1.0.0; }"
);

/// Sends the text of a panic to the log before the trap.
fn report_panics() {
    use std::sync::Once;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
    });
}

/// What `open` made, for the calls that follow; a guest has one thread.
mod opened {
    use std::any::Any;
    use std::cell::RefCell;
    use std::rc::Rc;

    thread_local! {
        static OPENED: RefCell<Option<Rc<dyn Any>>> = const { RefCell::new(None) };
    }

    /// Keeps what was opened in place of what was before.
    pub(super) fn put<T: 'static>(policy: T) {
        OPENED.with_borrow_mut(|opened| *opened = Some(Rc::new(policy)));
    }

    /// What was opened.
    pub(super) fn get<T: 'static>() -> Rc<T> {
        let opened = OPENED.with_borrow(Clone::clone).expect("the host opens before it asks");
        opened.downcast().unwrap_or_else(|_| panic!("another point of this plugin was opened"))
    }
}

mod points {
    use std::marker::PhantomData;

    use super::{opened, report_panics};
    use crate::{Config, Dedupe, Fate, Filter, Interceptor, Next, OnDuplicate, Retry, TxnCheck};

    macro_rules! needs {
        ($module:ident, $needs:expr) => {{
            let crate::Needs { body_bytes, properties } = $needs;
            super::$module::switchyard::plugin::types::Needs {
                body: body_bytes,
                columns: properties,
            }
        }};
    }

    /// Exports a filter.
    pub struct FilterGuest<F>(PhantomData<F>);

    /// A filter that was made from an expression.
    pub struct Predicate<F>(F);

    mod filter_exports {
        pub(super) use super::super::filter::exports::switchyard::plugin::filter::*;
    }

    impl<F: Filter> filter_exports::Guest for FilterGuest<F> {
        type Predicate = Predicate<F>;

        fn evaluate_all(
            predicates: Vec<filter_exports::PredicateBorrow<'_>>,
            frame: Vec<u8>,
            count: u32,
        ) -> Vec<Vec<u8>> {
            let predicates = predicates.iter().map(|it| it.get::<Predicate<F>>());
            predicates.map(|predicate| crate::run::filter(&predicate.0, &frame, count)).collect()
        }
    }

    impl<F: Filter> filter_exports::GuestPredicate for Predicate<F> {
        fn compile(
            expression: String,
            config: Vec<(String, String)>,
        ) -> Result<filter_exports::Predicate, String> {
            report_panics();
            let filter = F::compile(&expression, &Config::from_iter(config))?;
            Ok(filter_exports::Predicate::new(Predicate(filter)))
        }

        fn needs(&self) -> filter_exports::Needs {
            needs!(filter, self.0.needs())
        }

        fn evaluate(&self, frame: Vec<u8>, count: u32) -> Vec<u8> {
            crate::run::filter(&self.0, &frame, count)
        }
    }

    /// Exports a dedupe plugin.
    pub struct DedupeGuest<D>(PhantomData<D>);

    mod dedupe_exports {
        pub(super) use super::super::dedupe::exports::switchyard::plugin::dedupe::*;
    }

    impl<D: Dedupe> dedupe_exports::Guest for DedupeGuest<D> {
        fn open(config: Vec<(String, String)>) -> Result<dedupe_exports::Needs, String> {
            report_panics();
            let policy = D::open(&Config::from_iter(config))?;
            let needs = policy.needs();
            opened::put(policy);
            Ok(needs!(dedupe, needs))
        }

        fn keys(frame: Vec<u8>, count: u32) -> Vec<u8> {
            crate::run::dedupe(&*opened::get::<D>(), &frame, count)
        }

        fn describe() -> dedupe_exports::Policy {
            let crate::Policy { ttl_ms, on_duplicate, keyspace } = opened::get::<D>().policy();
            let on_duplicate = match on_duplicate {
                OnDuplicate::AckOriginal => dedupe_exports::Action::AckOriginal,
                OnDuplicate::Reject => dedupe_exports::Action::Reject,
                OnDuplicate::Mark => dedupe_exports::Action::Mark,
            };
            dedupe_exports::Policy { ttl_ms, on_duplicate, keyspace }
        }
    }

    /// Exports a retry policy.
    pub struct RetryGuest<R>(PhantomData<R>);

    mod retry_exports {
        pub(super) use super::super::retry::exports::switchyard::plugin::retry::*;
    }

    impl<R: Retry> retry_exports::Guest for RetryGuest<R> {
        fn open(config: Vec<(String, String)>) -> Result<(), String> {
            report_panics();
            opened::put(R::open(&Config::from_iter(config))?);
            Ok(())
        }

        fn decide(attempt: retry_exports::Attempt) -> retry_exports::Next {
            let attempt = crate::Attempt {
                count: attempt.count,
                max: attempt.max,
                age_ms: attempt.age_ms,
                topic: attempt.topic,
                group: attempt.group,
                reason: attempt.reason,
                last_delay_ms: attempt.last_delay_ms,
                properties: attempt.properties,
            };
            match opened::get::<R>().decide(&attempt) {
                Next::DelayMs(delay) => retry_exports::Next::DelayMs(delay),
                Next::ToTopic(topic) => retry_exports::Next::ToTopic(topic),
                Next::DeadLetter(reason) => retry_exports::Next::DeadLetter(reason),
                Next::Drop => retry_exports::Next::Drop,
            }
        }
    }

    /// Exports a transaction check.
    pub struct TxnCheckGuest<T>(PhantomData<T>);

    mod txn_exports {
        pub(super) use super::super::txn_check::exports::switchyard::plugin::txn_check::*;
    }

    impl<T: TxnCheck> txn_exports::Guest for TxnCheckGuest<T> {
        fn open(config: Vec<(String, String)>) -> Result<(), String> {
            report_panics();
            opened::put(T::open(&Config::from_iter(config))?);
            Ok(())
        }

        fn check(half: txn_exports::Half) -> txn_exports::Fate {
            let half = crate::Half {
                id: half.id,
                topic: half.topic,
                group: half.group,
                age_ms: half.age_ms,
                checks: half.checks,
                properties: half.properties,
                body: half.body,
            };
            match opened::get::<T>().check(&half) {
                Fate::Commit => txn_exports::Fate::Commit,
                Fate::Rollback => txn_exports::Fate::Rollback,
                Fate::Unknown => txn_exports::Fate::Unknown,
                Fate::AskProducer => txn_exports::Fate::AskProducer,
            }
        }
    }

    /// Exports an interceptor.
    pub struct InterceptorGuest<I>(PhantomData<I>);

    mod interceptor_exports {
        pub(super) use super::super::interceptor::exports::switchyard::plugin::interceptor::*;
    }

    impl<I: Interceptor> interceptor_exports::Guest for InterceptorGuest<I> {
        fn open(config: Vec<(String, String)>) -> Result<interceptor_exports::Needs, String> {
            report_panics();
            let policy = I::open(&Config::from_iter(config))?;
            let needs = policy.needs();
            opened::put(policy);
            Ok(needs!(interceptor, needs))
        }

        fn apply(frame: Vec<u8>, count: u32) -> Vec<u8> {
            crate::run::interceptor(&*opened::get::<I>(), &frame, count)
        }
    }
}

pub use points::{DedupeGuest, FilterGuest, InterceptorGuest, RetryGuest, TxnCheckGuest};
