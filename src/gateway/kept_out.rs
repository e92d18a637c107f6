//! Who is kept out, and who was removed and has left things behind: one short table beside the people. Why apart from them: every
//! replica looks at it twice a second, to let accounts rest and to refuse apps' tokens, and reads nobody else for that.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::ids::TenantId;
use crate::store::{self, Expect, Name, Records, Row, StoreError, Write};

/// By the id of a person. It is written together with the person's own row.
pub(super) const TABLE: Name = "people_kept_out";

/// How long after somebody's removal what they had begun may still end in an account: longer than any sign-in takes.
const LATE: u64 = 2 * 3600;

/// Somebody who is kept out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptOut {
    /// Whether nobody else was put on the tenant that bears their name: what that one has is theirs.
    pub is_alone: bool,
    /// Given where they were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
}

/// What is to be done about somebody who was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    /// On whose behalf, for the audit log.
    pub who: String,
    /// On whose limits they lived.
    pub tenant: TenantId,
    /// Seconds since 1970 until which something of theirs may still arrive.
    pub until: u64,
    /// Milliseconds since 1970 until which somebody is at it.
    pub busy: u64,
    /// Whether what they left was given up once.
    pub is_done: bool,
}

impl KeptOut {
    /// Somebody who was removed at `now`, in seconds since 1970.
    pub fn gone(is_alone: bool, who: &str, tenant: TenantId, now: u64) -> Self {
        let gone = Gone { who: who.to_owned(), tenant, until: now + LATE, busy: 0, is_done: false };
        Self { is_alone, gone: Some(gone) }
    }

    /// A row that cannot be read keeps out all the same.
    fn read(row: &Row) -> Self {
        row.read().unwrap_or_else(|error| {
            tracing::error!(person = row.id, %error, "what is to become of somebody who is kept out cannot be read");
            Self { is_alone: true, gone: None }
        })
    }

    pub fn put(&self, id: &str, expect: Expect) -> Result<Write, StoreError> {
        Write::put(TABLE, id, self, expect)
    }
}

impl Gone {
    /// What they left was given up at `now`, in seconds since 1970. To be looked at again later.
    pub fn done(&mut self, now: u64) {
        (self.is_done, self.busy) = (true, 0);
        if self.until <= now {
            self.until = now + LATE;
        }
    }
}

/// They are not kept out any more.
pub(super) fn lift(id: &str, expect: Expect) -> Write {
    Write::Delete { table: TABLE, id: id.to_owned(), expect }
}

/// One of them, and their row's version.
pub(super) async fn find(records: &dyn Records, id: &str) -> Result<Option<(KeptOut, u64)>, StoreError> {
    Ok(records.get(TABLE, id).await?.map(|row| (KeptOut::read(&row), row.version)))
}

/// All of them, by id.
pub(super) async fn all(records: &dyn Records) -> Result<Vec<(String, KeptOut)>, StoreError> {
    let rows = store::all(records, TABLE).await?;
    Ok(rows.iter().map(|row| (row.id.clone(), KeptOut::read(row))).collect())
}

/// The tenants of those that are theirs alone.
pub(super) fn tenants(all: &[(String, KeptOut)]) -> HashSet<TenantId> {
    let alone = all.iter().filter(|(_, out)| out.is_alone);
    alone.map(|(id, _)| TenantId::from(id.as_str())).collect()
}
