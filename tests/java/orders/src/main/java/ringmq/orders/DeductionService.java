package ringmq.orders;

import java.nio.charset.StandardCharsets;
import java.util.Map;

/** Deducts one kind of goods when it is called, and gives back when a message says so. */
final class DeductionService {
    private DeductionService() {
    }

    /** {@code --initial} says what there is at the first start. */
    static void start(Service service, Goods goods, String group) throws Exception {
        service.create(goods.schema(), Deductions.SCHEMA);
        Form initial = Form.parse(service.options.text("initial").getBytes(StandardCharsets.UTF_8));
        service.database.transaction(transaction -> {
            goods.stockUp(transaction, initial);
            return null;
        });
        Deductions deductions = new Deductions(goods, service.steps);
        service.consume(group, Topics.CANCEL, Map.of("CANCEL", deductions::cancel));
        service.door()
            .on("/deduct", request -> {
                service.database.transaction(transaction -> {
                    deductions.deduct(transaction, Order.of(request));
                    return null;
                });
                service.steps.reached("taken");
                return new Form().with("result", "taken");
            })
            .open();
    }
}
