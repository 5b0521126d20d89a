//! A compile-time check that a type which holds a secret keeps it.
//!
//! Invariant: where [`assert_closed`](crate::assert_closed) stands, its type has none of `Clone`, `Display`,
//! `Serialize` and `Deref`; whoever adds one breaks the build. The examples prove that the check refuses each of them.

pub use serde::Serialize;

/// Refuses to compile if one of the types can be copied, printed, serialised or dereferenced into its secret.
///
/// The method name is ambiguous, and so an error, for a type with one of the traits.
///
/// ```
/// struct Closed(String);
/// kh_core::assert_closed!(Closed, kh_core::SecretString, kh_core::SecretBytes);
/// ```
///
/// ```compile_fail,E0283
/// #[derive(Clone)]
/// struct Copied(String);
/// kh_core::assert_closed!(Copied);
/// ```
///
/// ```compile_fail,E0283
/// struct Printed(String);
/// impl std::fmt::Display for Printed {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str(&self.0)
///     }
/// }
/// kh_core::assert_closed!(Printed);
/// ```
///
/// ```compile_fail,E0283
/// struct Sent(String);
/// impl kh_core::secret::closed::Serialize for Sent {
///     fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
///         to.serialize_str(&self.0)
///     }
/// }
/// kh_core::assert_closed!(Sent);
/// ```
///
/// ```compile_fail,E0283
/// struct Opened(String);
/// impl std::ops::Deref for Opened {
///     type Target = String;
///     fn deref(&self) -> &String {
///         &self.0
///     }
/// }
/// kh_core::assert_closed!(Opened);
/// ```
#[macro_export]
macro_rules! assert_closed {
    ($($type:ty),+ $(,)?) => {
        $(const _: fn() = || {
            trait KeyholderAssertOpen<Which> {
                fn check() {}
            }
            struct KeyholderAssertCopied;
            struct KeyholderAssertPrinted;
            struct KeyholderAssertSent;
            struct KeyholderAssertDereferenced;
            impl<T: ?Sized> KeyholderAssertOpen<()> for T {}
            impl<T: ?Sized + Clone> KeyholderAssertOpen<KeyholderAssertCopied> for T {}
            impl<T: ?Sized + ::core::fmt::Display> KeyholderAssertOpen<KeyholderAssertPrinted> for T {}
            impl<T: ?Sized + $crate::secret::closed::Serialize> KeyholderAssertOpen<KeyholderAssertSent> for T {}
            impl<T: ?Sized + ::core::ops::Deref> KeyholderAssertOpen<KeyholderAssertDereferenced> for T {}
            <$type as KeyholderAssertOpen<_>>::check();
        };)+
    };
}
