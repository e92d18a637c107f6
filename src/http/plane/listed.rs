//! A router that remembers what it takes. Why: axum's own cannot be asked, and what is served and what is described must be the same
//! (see [`docs`](super::docs)).

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;

use super::Plane;

/// Handlers of one path, by method.
pub(super) struct Doors {
    methods: Vec<Method>,
    router: MethodRouter<Plane>,
}

/// Routes, and their list.
#[derive(Default)]
pub struct Routes {
    router: Router<Plane>,
    listed: Vec<(Method, &'static str)>,
}

macro_rules! first {
    ($($name:ident)*) => {
        $(
            /// Takes this method.
            pub(super) fn $name<H: Handler<T, Plane>, T: 'static>(handler: H) -> Doors {
                Doors { methods: Vec::new(), router: MethodRouter::new() }.$name(handler)
            }
        )*
    };
}

macro_rules! then {
    ($($name:ident, $method:ident;)*) => {
        impl Doors {
            $(
                /// Takes this method, too.
                pub(super) fn $name<H: Handler<T, Plane>, T: 'static>(mut self, handler: H) -> Self {
                    self.methods.push(Method::$method);
                    Self { router: self.router.on(MethodFilter::$method, handler), ..self }
                }
            )*
        }
    };
}

first! { get post put delete }

then! {
    get, GET;
    post, POST;
    put, PUT;
    delete, DELETE;
    options, OPTIONS;
}

impl Routes {
    /// None yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// One more path.
    pub(super) fn route(mut self, path: &'static str, doors: Doors) -> Self {
        self.listed.extend(doors.methods.into_iter().map(|method| (method, path)));
        Self { router: self.router.route(path, doors.router), ..self }
    }

    /// All of both.
    pub(super) fn merge(mut self, other: Self) -> Self {
        self.listed.extend(other.listed);
        Self { router: self.router.merge(other.router), ..self }
    }

    /// What is taken.
    #[cfg(test)]
    pub(super) fn listed(&self) -> &[(Method, &'static str)] {
        &self.listed
    }

    /// As axum serves it.
    pub(super) fn into_router(self) -> Router<Plane> {
        self.router
    }
}
