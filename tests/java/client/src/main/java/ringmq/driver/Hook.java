package ringmq.driver;

import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** Sees what a client asks before it goes out, what the broker asks of it, and the answers to what it waits for. */
abstract class Hook implements RPCHook {
    @Override
    public void doBeforeRequest(String address, RemotingCommand request) {
    }

    @Override
    public void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
    }
}
