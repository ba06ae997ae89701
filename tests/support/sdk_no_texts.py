"""The strings of the providers' wire formats that no dialect reads, each with the reason why it is no text.

A pattern is ``Type.member``, or ``.member`` where the member is none in any type; ``*`` stands for any characters.
What stands in neither table, the dialects see, or count as uncovered, whatever it says.
"""

from __future__ import annotations

#: No texts whatever stands in them.
NEVER: dict[str, tuple[str, ...]] = {
    "an id, which the provider or a program made up": (
        *(".id", ".*_id", ".*Id", ".fingerprint", ".system_fingerprint"),
        *(".prompt_cache_key", ".safety_identifier", ".user", ".created_by", ".identifier", ".cachedContent"),
        *(".progressToken", ".progress_token", ".*Arn", ".guardrailVersion"),
        *("CodeInterpreter.container", "ToolCodeInterpreter.container"),
    ),
    "the name of a model, a tool, a function, a server or a template, by which programs find it": (
        *(".name", ".model", ".*_name", ".serverName", ".server_label", ".namespace", ".version", ".modelVersion"),
        *(".logger", ".protocolVersion", ".inference_geo", ".param", ".jsonPath", "LocalSkill*.path"),
    ),
    "a word of the format, open so that there may be more of them": (
        *(".finish_reason", ".done_reason", ".stop_reason", ".stopReason", ".resultType", ".size", ".quality"),
        *(".background", ".output_format", ".effort", ".error_type", ".review_target", ".languageCode", ".think"),
        *(".keep_alive", ".mimeType", ".responseMimeType"),
        *("ToolReference.type", "ToolResultBlock*.type", "ChatCompletion*ToolCall.type"),
        *("ResponseError.type", "ImageGenerationCallError.type"),
        *("AcknowledgedSafetyCheck.code", "ComputerCallOutputAcknowledgedSafetyCheck.code", "PendingSafetyCheck.code"),
        *("ImageGenerationCallError.code", "ResponseErrorEvent.code"),
    ),
    "a moment in time or in a recording": (
        ".created_at",
        ".retrieved_at",
        ".lastModified",
        ".startOffset",
        ".endOffset",
    ),
    "where something is": (
        *(".url", ".uri", ".uriTemplate", ".websiteUrl", ".server_url", ".imageUri", ".photoUri", ".domain"),
        ".encodedPolyline",
    ),
    "sealed, so that nobody but the provider reads it": (
        *(".signature", ".thoughtSignature", ".encrypted_index", ".sdkBlob", ".googleMapsWidgetContextToken"),
        *(".continuationToken", ".cursor", ".nextCursor", ".requestState"),
    ),
    "opens a server of tools, or a domain; the model is not told": (
        *(".authorization", ".authorization_token", "Mcp.headers", "ToolMcp.headers"),
        "ContainerNetworkPolicyDomainSecret*.value",
    ),
    "the account's own notes, for its lists of calls": (".metadata", ".labels", ".requestMetadata", "*._meta"),
    "padding": (".obfuscation",),
}

#: Settings, and names in schemas: no texts as long as they are single words; prose in them is uncovered, or a text.
WORDS: tuple[str, ...] = (
    *("*Tool*.allowed_domains", "*.blocked_domains", "*.exclude*omains", "*.allowed_domains", "*.file_ids"),
    *("*.vector_store_ids", "*.ragFileIds", "*.ragCorpora", "*.ragCorpus", "*.fileSearchStoreNames", "*.datastore"),
    *("*.dataStore", "*.engine", "*.index", "*.endpoint", "*.searchTemplate", "*.customConfigs", "*.metadataFilter"),
    *("VertexAISearch*.filter", "*Filter.filters", "ComparisonFilter.key", "ComparisonFilter.value"),
    *("*.apiKey*", "*.accessToken", "*.idToken", "*.credentialSecret", "*.serviceAccount"),
    *("StreamableHttpTransport.headers", "*.sseReadTimeout", "*.timeout", "*.duration", "*.resolution", "*.gcsUri"),
    *("*.allowed_tools", "*.tool_names", "*.exclude_tools", "*.clear_tool_inputs", "*.allowedFunctionNames"),
    *("*.excludedPredefinedFunctions", "*ToolChoiceAllowed*.tools", "*AllowedToolsParam.tools"),
    *(
        "*.betas",
        "*.remove_to_redeem",
        "*.additionalModelResponseFieldPaths",
        "*.conversation",
        *("*.guardrailIdentifier", "*.speakerLabel"),
    ),
    *("*.promptTemplateName", "*.responseTemplateName", "*.modelName", "*.voice", "Reasoning.mode", "*.visibleCells"),
    *("Schema.format", "*.propertyOrdering", "*.required", "*Tool.type", "ContextManagement.type"),
    *("*Capabilities.experimental", "*Capabilities.extensions", "Icon.s*", "PromptReference.title"),
    *("Moderation*Error.code", "Moderation*Error.message"),
)
