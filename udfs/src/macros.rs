//! How a file presents its function, and a folder its files.

/// Presents an aggregate: its documentation, the constructor of its calls, and its shared instance.
///
/// The documentation is written here and nowhere else: the constructor has all of it, the SQL reference what stands
/// before `# Details`. An argument is an `Expr`; an `Option<Expr>` where it has a default; a `Vec<Expr>` where there may
/// be any number of them.
macro_rules! aggregate {
    (
        $(#[doc = $doc:expr])+
        $name:ident($($argument:ident: $type:ty),+), $shared:ident: $function:ty
    ) => {
        $(#[doc = $doc])+
        pub fn $name($($argument: $type),+) -> datafusion_expr::Expr {
            let mut arguments = Vec::new();
            $($crate::expr_fn::Argument::add_to($argument, &mut arguments);)+
            $crate::expr_fn::aggregate($shared(), <$function>::SPEC, arguments)
        }

        #[doc = concat!("The one instance of the aggregate [`", stringify!($name), "`](crate::expr_fn::", stringify!($name), ").")]
        pub fn $shared() -> std::sync::Arc<datafusion_expr::AggregateUDF> {
            static SHARED: std::sync::LazyLock<std::sync::Arc<datafusion_expr::AggregateUDF>> =
                std::sync::LazyLock::new(|| std::sync::Arc::new(<$function>::new().into()));
            std::sync::Arc::clone(&SHARED)
        }

        documented!($function, $($doc),+);
    };
}

/// Presents a scalar function, as [`aggregate!`] an aggregate.
macro_rules! scalar {
    (
        $(#[doc = $doc:expr])+
        $name:ident($($argument:ident: $type:ty),+), $shared:ident: $function:ty
    ) => {
        $(#[doc = $doc])+
        pub fn $name($($argument: $type),+) -> datafusion_expr::Expr {
            let mut arguments = Vec::new();
            $($crate::expr_fn::Argument::add_to($argument, &mut arguments);)+
            $crate::expr_fn::scalar($shared(), arguments)
        }

        #[doc = concat!("The one instance of the function [`", stringify!($name), "`](crate::expr_fn::", stringify!($name), ").")]
        pub fn $shared() -> std::sync::Arc<datafusion_expr::ScalarUDF> {
            static SHARED: std::sync::LazyLock<std::sync::Arc<datafusion_expr::ScalarUDF>> =
                std::sync::LazyLock::new(|| std::sync::Arc::new(<$function>::new().into()));
            std::sync::Arc::clone(&SHARED)
        }

        documented!($function, $($doc),+);
    };
}

macro_rules! documented {
    ($function:ty, $($doc:expr),+) => {
        impl $crate::docs::Documented for $function {
            const DOC: &'static str = concat!($($doc, "\n"),+);
            const SECTION: datafusion_expr::DocSection = super::SECTION;
        }
    };
}

/// Lists the functions of a folder in the order of the SQL reference: the file, the constructor and the instance of each.
macro_rules! functions {
    (
        aggregates { $($aggregate:ident::{$call:ident, $udaf:ident}),* $(,)? }
        scalars { $($scalar:ident::{$scalar_call:ident, $udf:ident}),* $(,)? }
    ) => {
        pub(crate) mod expr_fn {
            $(pub use super::$aggregate::$call;)*
            $(pub use super::$scalar::$scalar_call;)*
        }

        pub(crate) mod shared {
            $(pub use super::$aggregate::$udaf;)*
            $(pub use super::$scalar::$udf;)*
        }

        pub(crate) fn functions() -> $crate::Functions {
            $crate::Functions { aggregates: vec![$(shared::$udaf()),*], scalars: vec![$(shared::$udf()),*] }
        }
    };
}
