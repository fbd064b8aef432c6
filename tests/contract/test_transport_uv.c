/* Goal: the TCP transport keeps the contract.
 * Method: the common suite over loopback. */
#include "tests/contract/transport_contract.h"

int main(void)
{
    return contract_run(&contract_uv);
}
