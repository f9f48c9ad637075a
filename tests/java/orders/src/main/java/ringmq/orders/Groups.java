package ringmq.orders;

/** The consumer and producer groups. Each consumer group gets every message of its topic and tags. */
final class Groups {
    static final String ORDER = "order_group";
    static final String ORDER_CREATION = "order_creation_group";
    static final String ORDER_OUTBOX = "order_outbox_group";
    static final String STOCK = "stock_group";
    static final String COUPON = "coupon_group";
    static final String BALANCE = "balance_group";
    static final String PAYMENT = "payment_group";
    static final String PAYMENT_OUTBOX = "payment_outbox_group";
    static final String POINTS = "points_group";
    static final String PAYMENT_LOG = "payment_log_group";
    static final String NOTICE = "notice_group";

    private Groups() {
    }
}
