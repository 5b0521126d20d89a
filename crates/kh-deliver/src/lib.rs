//! Delivery hooks after a promotion, and notifications.
