package ringmq.orders;

/** What is said between the services; a message's key is always the order's id. */
final class Topics {
    /** An order has become visible. */
    static final String CREATED = "order_created";
    /** An order's time to pay is over; comes delayed, for every order. */
    static final String UNPAID = "order_unpaid";
    /** An order is off: give back what you took for it. */
    static final String CANCEL = "order_cancel";
    /** What became of a payment, as the tag says: PAID or CLOSED. */
    static final String PAYMENT = "payment_result";

    private Topics() {
    }
}
