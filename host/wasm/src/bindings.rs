//! The plugin points as functions, made from the WIT.
use wasmtime::Store;
use wasmtime::component::{InstancePre, ResourceAny};
use yard_abi::manifest::Point;

use crate::compiled::Compiled;
use crate::fault::{Fault, FaultKind};
use crate::guest::{Binding, Guest};

#[expect(missing_docs, reason = "the WIT documents what is made of it")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../protocol/abi/wit",
        inline: "
            package yard:host;
            world points {
                export switchyard:plugin/filter@1.0.0;
                export switchyard:plugin/dedupe@1.0.0;
                export switchyard:plugin/retry@1.0.0;
                export switchyard:plugin/txn-check@1.0.0;
                export switchyard:plugin/interceptor@1.0.0;
            }
        ",
        world: "yard:host/points",
        additional_derives: [PartialEq],
    });
}

use generated::exports::switchyard::plugin::{dedupe, filter, interceptor, retry, txn_check};

pub use generated::exports::switchyard::plugin::dedupe::{Action, Policy};
pub use generated::exports::switchyard::plugin::retry::{Attempt, Next};
pub use generated::exports::switchyard::plugin::txn_check::{Fate, Half};
pub(crate) use generated::switchyard::plugin::types::Needs;

/// Where a component has its points.
pub(crate) struct Indices {
    filter: Option<filter::GuestIndices>,
    dedupe: Option<dedupe::GuestIndices>,
    retry: Option<retry::GuestIndices>,
    txn_check: Option<txn_check::GuestIndices>,
    interceptor: Option<interceptor::GuestIndices>,
}

impl Indices {
    /// Finds the points that the manifest names.
    pub(crate) fn of(pre: &InstancePre<Guest>, points: &[Point]) -> wasmtime::Result<Self> {
        let has = |point| points.contains(&point);
        Ok(Self {
            filter: has(Point::Filter).then(|| filter::GuestIndices::new(pre)).transpose()?,
            dedupe: has(Point::Dedupe).then(|| dedupe::GuestIndices::new(pre)).transpose()?,
            retry: has(Point::Retry).then(|| retry::GuestIndices::new(pre)).transpose()?,
            txn_check: has(Point::TxnCheck)
                .then(|| txn_check::GuestIndices::new(pre))
                .transpose()?,
            interceptor: has(Point::Interceptor)
                .then(|| interceptor::GuestIndices::new(pre))
                .transpose()?,
        })
    }
}

/// The points of one instance.
pub(crate) struct Exports {
    filter: Option<filter::Guest>,
    dedupe: Option<dedupe::Guest>,
    retry: Option<retry::Guest>,
    txn_check: Option<txn_check::Guest>,
    interceptor: Option<interceptor::Guest>,
}

/// Instantiates a plugin and finds its points.
pub(crate) fn instantiate(
    store: &mut Store<Guest>,
    compiled: &Compiled,
) -> wasmtime::Result<Exports> {
    let instance = compiled.pre().instantiate(&mut *store)?;
    let Indices { filter, dedupe, retry, txn_check, interceptor } = compiled.indices();
    Ok(Exports {
        filter: filter.as_ref().map(|it| it.load(&mut *store, &instance)).transpose()?,
        dedupe: dedupe.as_ref().map(|it| it.load(&mut *store, &instance)).transpose()?,
        retry: retry.as_ref().map(|it| it.load(&mut *store, &instance)).transpose()?,
        txn_check: txn_check.as_ref().map(|it| it.load(&mut *store, &instance)).transpose()?,
        interceptor: interceptor.as_ref().map(|it| it.load(&mut *store, &instance)).transpose()?,
    })
}

fn has<T>(exports: Option<&T>, point: Point) -> wasmtime::Result<&T> {
    let says = || format!("the plugin does not serve the point `{}`", point.name());
    exports.ok_or_else(|| Fault::new(FaultKind::Refused, &says()).into())
}

impl Exports {
    pub(crate) fn compile(
        &self,
        store: &mut Store<Guest>,
        binding: &Binding,
    ) -> wasmtime::Result<Result<ResourceAny, String>> {
        let filter = has(self.filter.as_ref(), Point::Filter)?;
        filter.predicate().call_compile(store, binding.expression(), binding.config())
    }

    pub(crate) fn needs(
        &self,
        store: &mut Store<Guest>,
        predicate: ResourceAny,
    ) -> wasmtime::Result<Needs> {
        has(self.filter.as_ref(), Point::Filter)?.predicate().call_needs(store, predicate)
    }

    pub(crate) fn evaluate(
        &self,
        store: &mut Store<Guest>,
        predicate: ResourceAny,
        frame: &Vec<u8>,
        count: u32,
    ) -> wasmtime::Result<Vec<u8>> {
        let filter = has(self.filter.as_ref(), Point::Filter)?;
        filter.predicate().call_evaluate(store, predicate, frame, count)
    }

    /// Opens a point with its settings, where there is something to open; what its frames must
    /// have, where it has any.
    pub(crate) fn open(
        &self,
        store: &mut Store<Guest>,
        point: Point,
        binding: &Binding,
    ) -> wasmtime::Result<Result<Needs, String>> {
        let config = binding.config();
        let none = || Needs { body: 0, columns: Vec::new() };
        match point {
            Point::Filter => Ok(Ok(none())),
            Point::Dedupe => has(self.dedupe.as_ref(), point)?.call_open(store, config),
            Point::Retry => {
                let opened = has(self.retry.as_ref(), point)?.call_open(store, config)?;
                Ok(opened.map(|()| none()))
            }
            Point::TxnCheck => {
                let opened = has(self.txn_check.as_ref(), point)?.call_open(store, config)?;
                Ok(opened.map(|()| none()))
            }
            Point::Interceptor => has(self.interceptor.as_ref(), point)?.call_open(store, config),
        }
    }

    pub(crate) fn keys(
        &self,
        store: &mut Store<Guest>,
        frame: &Vec<u8>,
        count: u32,
    ) -> wasmtime::Result<Vec<u8>> {
        has(self.dedupe.as_ref(), Point::Dedupe)?.call_keys(store, frame, count)
    }

    pub(crate) fn describe(&self, store: &mut Store<Guest>) -> wasmtime::Result<Policy> {
        has(self.dedupe.as_ref(), Point::Dedupe)?.call_describe(store)
    }

    pub(crate) fn apply(
        &self,
        store: &mut Store<Guest>,
        frame: &Vec<u8>,
        count: u32,
    ) -> wasmtime::Result<Vec<u8>> {
        has(self.interceptor.as_ref(), Point::Interceptor)?.call_apply(store, frame, count)
    }

    pub(crate) fn decide(
        &self,
        store: &mut Store<Guest>,
        attempt: &Attempt,
    ) -> wasmtime::Result<Next> {
        has(self.retry.as_ref(), Point::Retry)?.call_decide(store, attempt)
    }

    pub(crate) fn check(&self, store: &mut Store<Guest>, half: &Half) -> wasmtime::Result<Fate> {
        has(self.txn_check.as_ref(), Point::TxnCheck)?.call_check(store, half)
    }
}
