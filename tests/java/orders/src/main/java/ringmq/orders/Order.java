package ringmq.orders;

/** What a customer asks for. Money is in cents; {@code coupon} is empty for none. */
record Order(String id, String user, String product, long quantity, String coupon, long balance) {
    private static final long PRICE = 1_000;
    private static final long COUPON_WORTH = 100;

    static Order of(Form form) {
        Order order = new Order(form.text("order"), form.text("user"), form.text("product"), form.amount("quantity"),
            form.text("coupon"), form.amount("balance"));
        if (order.quantity < 1 || order.toPay() < 1) {
            throw new IllegalArgumentException("an order has at least one piece, and something is left to pay");
        }
        return order;
    }

    boolean hasCoupon() {
        return !coupon.isEmpty();
    }

    /** What the third party has to collect. */
    long toPay() {
        return quantity * PRICE - (hasCoupon() ? COUPON_WORTH : 0) - balance;
    }

    Form form() {
        return new Form().with("order", id).with("user", user).with("product", product).with("quantity", quantity)
            .with("coupon", coupon).with("balance", balance);
    }
}
