package ringmq.orders;

import java.util.Map;

/** Takes orders, answers what became of them, delivers what is paid and cancels what is not. */
final class OrderService {
    private OrderService() {
    }

    static void start(Service service) throws Exception {
        service.create(OrderTable.SCHEMA);
        OrderTable orders = new OrderTable(service.database, service.outbox, service.options.number("unpaid-level"));
        OrderCreation creation = new OrderCreation(service, orders);
        service.sendOutbox(Groups.ORDER_OUTBOX);
        service.consume(Groups.ORDER, Topics.PAYMENT, Map.of(
            "PAID", (transaction, body) -> orders.deliver(transaction, body.text("order")),
            "CLOSED", (transaction, body) -> orders.cancelUnpaid(transaction, body.text("order"))));
        service.door()
            .on("/create", request -> {
                creation.create(Order.of(request));
                return answer(orders, request);
            })
            .on("/order", request -> answer(orders, request))
            .open();
    }

    private static Form answer(OrderTable orders, Form request) throws Exception {
        String id = request.text("order");
        Row order = orders.find(id).orElseThrow(() -> new Refusal("there is no order " + id));
        return new Form().with("status", order.text("status")).with("to_pay", order.text("to_pay"))
            .with("reason", order.text("reason"));
    }
}
