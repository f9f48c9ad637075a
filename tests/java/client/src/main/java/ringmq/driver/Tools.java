package ringmq.driver;

import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** The tools' own library, for one thing that an administrator does. */
final class Tools {
    interface Act {
        void with(DefaultMQAdminExt admin) throws Exception;
    }

    private Tools() {
    }

    /** Acts at the name server {@code --namesrv}. What is refused is a line {@code refused}. */
    static void run(Options options, String group, Act act) throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt(10_000);
        admin.setNamesrvAddr(options.text("namesrv"));
        admin.setAdminExtGroup(group);
        admin.start();
        try {
            act.with(admin);
        } catch (MQBrokerException | MQClientException e) {
            new Line("refused").error(e).print();
        } finally {
            admin.shutdown();
        }
    }
}
