"""No, with the exchange's own code: every refusal that the engine or the door of the exchange can give.

Codes and texts are those of the real exchange, so that a client's handling of them is exercised for real.
"""

from __future__ import annotations

from typing import Final


class Refusal(Exception):
    """A refused request; nothing has changed. `status` is the HTTP status that carries it."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status


_NO_RECORD: Final = "The order will not be recorded in the order history."

MESSAGES: Final[dict[int, str]] = {
    -1000: "An unknown error occured while processing the request.",
    -1001: "Internal error; unable to process your request. Please try again.",
    -1002: "You are not authorized to execute this request.",
    -1003: "Too many requests.",
    -1006: "An unexpected response was received from the message bus. Execution status unknown.",
    -1007: "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    -1008: "Server is currently overloaded with other requests. Please try again in a few minutes.",
    -1015: "Too many new orders.",
    -1016: "This service is no longer available.",
    -1021: "Timestamp for this request is outside of the recvWindow.",
    -1022: "Signature for this request is not valid.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1120: "Invalid interval.",
    -1121: "Invalid symbol.",
    -1125: "This listenKey does not exist.",
    -1130: "Data sent for a parameter is not valid.",
    -1131: "recvWindow must be less than 60000.",
    -2010: "New order rejected.",
    -2011: "Unknown order sent.",
    -2013: "Order does not exist.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action.",
    -2018: "Balance is insufficient.",
    -2019: "Margin is insufficient.",
    -2021: "Order would immediately trigger.",
    -2022: "ReduceOnly Order is rejected.",
    -2025: "Reach max open order limit.",
    -2027: "Exceeded the maximum allowable position at current leverage.",
    -2028: "Leverage is smaller than permitted: insufficient margin balance.",
    -4001: "Price less than 0.",
    -4002: "Price greater than max price.",
    -4003: "Quantity less than or equal to zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4006: "Stop price less than zero.",
    -4014: "Price not increased by tick size.",
    -4015: "Client order id length should be less than 36 chars.",
    -4016: "Limit price can't be higher than the multiplier of the mark price allows.",
    -4023: "Quantity not increased by step size.",
    -4024: "Limit price can't be lower than the multiplier of the mark price allows.",
    -4028: "Leverage is not valid.",
    -4045: "Reach max stop order limit.",
    -4046: "No need to change margin type.",
    -4047: "Margin type cannot be changed if there exists open orders.",
    -4048: "Margin type cannot be changed if there exists position.",
    -4059: "No need to change position side.",
    -4061: "Order's position side does not match user's setting.",
    -4067: "Position side cannot be changed if there exists open orders.",
    -4068: "Position side cannot be changed if there exists position.",
    -4084: "Method is not allowed currently. Upcoming soon.",
    -4116: "ClientOrderId is duplicated.",
    -4118: "ReduceOnly Order Failed. Please check your existing position and open orders.",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4131: "The counterparty's best price does not meet the PERCENT_PRICE filter limit.",
    -4130: "An open stop or take profit order with GTE and closePosition in the direction is existing.",
    -4135: "Invalid activation price.",
    -4136: "Target strategy invalid for this orderType with closePosition true.",
    -4137: "Quantity must be zero with closePosition equals true.",
    -4140: "Invalid symbol status for opening position.",
    -4141: "Symbol is closed.",
    -4161: "Leverage reduction is not supported in Isolated Margin Mode with open positions.",
    -4192: "Trade forbidden due to Cooling-off Period.",
    -4509: "Time in Force (TIF) GTE can only be used with open positions.",
    -4051: "Isolated balance insufficient.",
    -4054: "Cannot add position margin: position is 0.",
    -4055: "Amount must be positive.",
    -5027: "No need to modify the order.",
    -5021: f"Due to the order could not be filled immediately, the FOK order has been rejected. {_NO_RECORD}",
    -5022: f"Due to the order could not be executed as maker, the Post Only order will be rejected. {_NO_RECORD}",
}


STATUSES: Final = {-1000: 500, -1001: 500, -1002: 401, -1006: 500, -1007: 408, -1008: 503, -1016: 503, -2014: 401, -2015: 401}


def refuse(code: int) -> Refusal:
    """The refusal with the exchange's own words; use it as `raise refuse(-2022)`."""
    return Refusal(code, MESSAGES[code], status=STATUSES.get(code, 400))


def missing(parameter: str) -> Refusal:
    return Refusal(-1102, f"Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed.")


def not_required(parameter: str) -> Refusal:
    return Refusal(-1106, f"Parameter '{parameter}' sent when not required.")


def illegal(parameter: str) -> Refusal:
    return Refusal(-1100, f"Illegal characters found in parameter '{parameter}'.")


def too_little(min_notional: str) -> Refusal:
    return Refusal(-4164, f"Order's notional must be no smaller than {min_notional} (unless you choose reduce only).")
