//! Routes that can be listed. axum's router answers and does not tell what it knows, so whatever is served is put into it through here:
//! the document of the API is made of this list, and a route that is not described fails a test.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, on};

use super::Plane;

/// The methods that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
    /// For pages of other origins (CORS); described by itself.
    Options,
}

impl Method {
    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }

    const fn filter(self) -> axum::routing::MethodFilter {
        use axum::routing::MethodFilter;
        match self {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Put => MethodFilter::PUT,
            Method::Delete => MethodFilter::DELETE,
            Method::Options => MethodFilter::OPTIONS,
        }
    }
}

/// One route: a method, and a path as axum writes it.
pub type Known = (Method, &'static str);

/// What a path takes.
pub(super) struct Methods {
    inner: MethodRouter<Plane>,
    names: Vec<Method>,
}

macro_rules! first {
    ($($name:ident $method:ident),*) => {$(
        /// A path that takes this method.
        pub(super) fn $name<H, T>(handler: H) -> Methods
        where
            H: Handler<T, Plane>,
            T: 'static,
        {
            Methods { inner: on(Method::$method.filter(), handler), names: vec![Method::$method] }
        }
    )*};
}

macro_rules! further {
    ($($name:ident $method:ident),*) => {
        impl Methods {$(
            /// And this one.
            pub(super) fn $name<H, T>(self, handler: H) -> Self
            where
                H: Handler<T, Plane>,
                T: 'static,
            {
                self.and(Method::$method, handler)
            }
        )*}
    };
}

first!(get Get, post Post, put Put, delete Delete);
further!(post Post, options Options);

impl Methods {
    fn and<H, T>(mut self, method: Method, handler: H) -> Self
    where
        H: Handler<T, Plane>,
        T: 'static,
    {
        self.inner = self.inner.on(method.filter(), handler);
        self.names.push(method);
        self
    }
}

/// A router, and what is in it.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<Plane>,
    known: Vec<Known>,
}

impl Routes {
    /// None.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// One path more.
    pub(super) fn route(mut self, path: &'static str, methods: Methods) -> Self {
        self.known.extend(methods.names.iter().map(|method| (*method, path)));
        self.router = self.router.route(path, methods.inner);
        self
    }

    /// Those of another part.
    pub(super) fn merge(mut self, other: Routes) -> Self {
        self.known.extend(other.known);
        self.router = self.router.merge(other.router);
        self
    }

    /// Every route.
    pub(super) fn known(&self) -> &[Known] {
        &self.known
    }

    /// As axum serves them.
    pub(super) fn into_router(self) -> Router<Plane> {
        self.router
    }
}
