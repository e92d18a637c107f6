//! How a platform wants to be told who calls: a closed set of schemes. (Schemes to be written.)

use crate::secret::Secret;

/// What an account proves itself with.
#[derive(Clone, Debug)]
pub enum Credential {
    /// One opaque key or token (also Zhipu's `id.secret`, Spark's APIPassword, Baidu's `bce-v3/…`).
    ApiKey(Secret),
    /// An access key and its secret (Baidu AK/SK, Volcengine AK/SK).
    KeyPair { access_key: Secret, secret_key: Secret },
    /// An application with key and secret (Spark's WebSocket).
    App { app_id: String, api_key: Secret, api_secret: Secret },
    /// Nothing: a local server without authentication.
    None,
}
