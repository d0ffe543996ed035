//! The mark of every refusal: what stood against which request.
use super::{
    FetchError, FindError, MemberError, MoveError, OperateError, ProduceError, SubscribeError,
    TxError,
};

impl ProduceError {
    /// A request is refused for this.
    pub(super) fn reach(&self) {
        match self {
            Self::AckUnavailable(_) => yard_wire::mark!(RefusedProduceAckUnavailable),
            Self::NoTopic(_) => yard_wire::mark!(RefusedProduceNoTopic),
            Self::NoQueue(_) => yard_wire::mark!(RefusedProduceNoQueue),
            Self::NotHere(_) => yard_wire::mark!(RefusedProduceNotHere),
            Self::BadArgument(_) => yard_wire::mark!(RefusedProduceBadArgument),
            Self::LimitReached(_) => yard_wire::mark!(RefusedProduceLimitReached),
            Self::TooFar { .. } => yard_wire::mark!(RefusedProduceTooFar),
            Self::DelayInOrder { .. } => yard_wire::mark!(RefusedProduceDelayInOrder),
            Self::SystemTopic(_) => yard_wire::mark!(RefusedProduceSystemTopic),
            Self::Record(_) => yard_wire::mark!(RefusedProduceRecord),
            Self::DiskMark => yard_wire::mark!(RefusedProduceDiskMark),
            Self::Backlog { .. } => yard_wire::mark!(RefusedProduceBacklog),
            Self::Fenced { .. } => yard_wire::mark!(RefusedProduceFenced),
            Self::Stale { .. } => yard_wire::mark!(RefusedProduceStale),
            Self::Ahead { .. } => yard_wire::mark!(RefusedProduceAhead),
            Self::UnknownTransaction(_) => yard_wire::mark!(RefusedProduceUnknownTransaction),
            Self::TransactionTooLarge(_) => yard_wire::mark!(RefusedProduceTransactionTooLarge),
            Self::PreparedKey => yard_wire::mark!(RefusedProducePreparedKey),
            Self::NoDedupeWindow { .. } => yard_wire::mark!(RefusedProduceNoDedupeWindow),
            Self::DedupeFull { .. } => yard_wire::mark!(RefusedProduceDedupeFull),
        }
    }
}

impl TxError {
    /// A request is refused for this.
    pub(super) fn reach(&self) {
        match self {
            Self::NotHere(_) => yard_wire::mark!(RefusedTxNotHere),
            Self::BadName(_) => yard_wire::mark!(RefusedTxBadName),
            Self::BadArgument(_) => yard_wire::mark!(RefusedTxBadArgument),
            Self::LimitReached(_) => yard_wire::mark!(RefusedTxLimitReached),
            Self::Unknown(_) => yard_wire::mark!(RefusedTxUnknown),
            Self::Foreign(_) => yard_wire::mark!(RefusedTxForeign),
            Self::Finished { .. } => yard_wire::mark!(RefusedTxFinished),
            Self::Stale(_) => yard_wire::mark!(RefusedTxStale),
            Self::Fenced { .. } => yard_wire::mark!(RefusedTxFenced),
        }
    }
}

impl SubscribeError {
    /// A request is refused for this.
    pub(super) fn reach(&self) {
        match self {
            Self::NoTopic(_) => yard_wire::mark!(RefusedSubscribeNoTopic),
            Self::NoQueue(_) => yard_wire::mark!(RefusedSubscribeNoQueue),
            Self::NotHere(_) => yard_wire::mark!(RefusedSubscribeNotHere),
            Self::BadName(_) => yard_wire::mark!(RefusedSubscribeBadName),
            Self::BadArgument(_) => yard_wire::mark!(RefusedSubscribeBadArgument),
            Self::Expression(_) => yard_wire::mark!(RefusedSubscribeExpression),
            Self::OtherExpression { .. } => yard_wire::mark!(RefusedSubscribeOtherExpression),
            Self::OtherMode { .. } => yard_wire::mark!(RefusedSubscribeOtherMode),
            Self::LimitReached(_) => yard_wire::mark!(RefusedSubscribeLimitReached),
            Self::Moving => yard_wire::mark!(RefusedSubscribeMoving),
        }
    }
}

impl MoveError {
    /// A request is refused for this.
    pub(super) fn reach(&self) {
        match self {
            Self::Subscribing(_) => yard_wire::mark!(RefusedMoveSubscribing),
            Self::BeyondEnd { .. } => yard_wire::mark!(RefusedMoveBeyondEnd),
            Self::Drained { .. } => yard_wire::mark!(RefusedMoveDrained),
        }
    }
}

impl MemberError {
    /// A request is refused for this.
    pub(super) fn reach(&self) {
        match self {
            Self::NotHere(_) => yard_wire::mark!(RefusedMemberNotHere),
            Self::NoSubscription(_) => yard_wire::mark!(RefusedMemberNoSubscription),
            Self::BadArgument(_) => yard_wire::mark!(RefusedMemberBadArgument),
            Self::LongError { .. } => yard_wire::mark!(RefusedMemberLongError),
        }
    }
}

impl FetchError {
    /// A request is refused for this.
    pub(super) fn reach(&self) {
        match self {
            Self::NoTopic(_) => yard_wire::mark!(RefusedFetchNoTopic),
            Self::NoQueue(_) => yard_wire::mark!(RefusedFetchNoQueue),
            Self::NotHere(_) => yard_wire::mark!(RefusedFetchNotHere),
            Self::Below { .. } => yard_wire::mark!(RefusedFetchBelow),
        }
    }
}

impl FindError {
    /// A request is refused for this.
    pub(super) fn reach(&self) {
        match self {
            Self::NoTopic(_) => yard_wire::mark!(RefusedFindNoTopic),
            Self::NotHere(_) => yard_wire::mark!(RefusedFindNotHere),
            Self::BadArgument(_) => yard_wire::mark!(RefusedFindBadArgument),
        }
    }
}

impl OperateError {
    /// A request is refused for this.
    pub(super) fn reach(&self) {
        match self {
            Self::NoTopic(_) => yard_wire::mark!(RefusedOperateNoTopic),
            Self::NotHere(_) => yard_wire::mark!(RefusedOperateNotHere),
            Self::BadName(_) => yard_wire::mark!(RefusedOperateBadName),
            Self::BadArgument(_) => yard_wire::mark!(RefusedOperateBadArgument),
            Self::BadRetryPolicy(_) => yard_wire::mark!(RefusedOperateBadRetryPolicy),
            Self::BadWindow(_) => yard_wire::mark!(RefusedOperateBadWindow),
            Self::SystemTopic(_) => yard_wire::mark!(RefusedOperateSystemTopic),
            Self::LimitReached(_) => yard_wire::mark!(RefusedOperateLimitReached),
            Self::TopicExists { .. } => yard_wire::mark!(RefusedOperateTopicExists),
            Self::NoGroup(_) => yard_wire::mark!(RefusedOperateNoGroup),
            Self::NoMessage(_) => yard_wire::mark!(RefusedOperateNoMessage),
            Self::NoQueue(_) => yard_wire::mark!(RefusedOperateNoQueue),
            Self::NotStopped { .. } => yard_wire::mark!(RefusedOperateNotStopped),
            Self::NoTenant(_) => yard_wire::mark!(RefusedOperateNoTenant),
            Self::TenantExists(_) => yard_wire::mark!(RefusedOperateTenantExists),
            Self::Arriving => yard_wire::mark!(RefusedOperateArriving),
            Self::NoPlugin(_) => yard_wire::mark!(RefusedOperateNoPlugin),
            Self::PluginState { .. } => yard_wire::mark!(RefusedOperatePluginState),
            Self::Transaction(_) => yard_wire::mark!(RefusedOperateTransaction),
            Self::Drained { .. } => yard_wire::mark!(RefusedOperateDrained),
            Self::BadDrainTarget { .. } => yard_wire::mark!(RefusedOperateBadDrainTarget),
            Self::NotDrained { .. } => yard_wire::mark!(RefusedOperateNotDrained),
            Self::HasMembers { .. } => yard_wire::mark!(RefusedOperateHasMembers),
            Self::NotOurs => yard_wire::mark!(RefusedOperateNotOurs),
        }
    }
}
